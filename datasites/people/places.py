"""Where accounts, sessions and invitations of the console are: a file of the directory, or the ledger's database."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from datasites.directory import derived_key
from datasites.ledger.database import Database, database_of
from datasites.people.rows import ConsoleRows, FileRows
from datasites.settings import Settings
from policies.errors import DatasiteError

FILE = "console.db"


@dataclass(frozen=True)
class SealedDatabase:
    """A database whose rows of the console are sealed under `key`, 32 bytes."""

    database: Database
    key: bytes = field(repr=False)


ConsolePlace = Path | SealedDatabase


def accounts_place(settings: Settings) -> ConsolePlace:
    """Where the console's accounts of these settings are: where the ledger is.

    Raises `DatasiteError` where the settings name a database and the directory has accounts in a file, too: an account
    that was closed in one of them could be open in the other.
    """
    file = settings.directory / FILE
    if not settings.ledger:
        return file
    if file.exists():
        raise DatasiteError(
            f"The setting `ledger` names a database, and {file} is there: that file has the console's accounts until"
            " they are moved. Move them with `datasite move-ledger`; or take the setting out to go on with the file."
        )
    return accounts_database(settings)


def accounts_database(settings: Settings) -> SealedDatabase:
    """The database that the settings name, with the key of this directory. Raises `DatasiteError` where it is lost."""
    return SealedDatabase(database_of(settings), derived_key(settings.directory, "rows of the console"))


def open_rows(place: ConsolePlace) -> ConsoleRows:
    """The rows at a place; the tables are made where there are none."""
    if isinstance(place, SealedDatabase):
        from datasites.people.sealed_rows import SealedRows

        return SealedRows(place.database, place.key)
    return FileRows(place)
