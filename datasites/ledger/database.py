"""Where a ledger is: a file in the datasite's directory, or a PostgreSQL database that the hospital's team keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasites.settings import Settings
from policies.errors import DatasiteError
from policies.text import password_in


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database with a ledger in it, in the first schema of its search path.

    Args:
      url: as `postgresql://user@host/name?sslmode=verify-full`; it holds no password, so it may be shown.
      password_file: holds the password alone; None where the server asks for none, or a certificate is shown to it.
    """

    url: str
    password_file: Path | None = None

    def password(self) -> str | None:
        """What stands in the file now. Raises `DatasiteError` where it cannot be read."""
        if self.password_file is None:
            return None
        try:
            text = self.password_file.read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise DatasiteError(
                f"ledger_password_file={str(self.password_file)!r} cannot be read. Name a file with the password alone."
            ) from None
        return password_in(text, str(self.password_file))


Place = str | Path | Database


def ledger_place(settings: Settings) -> Path | Database:
    """Where the ledger of these settings is.

    Raises `DatasiteError` where the settings name a database and the directory has a ledger in a file, too: only one
    of them can know what was spent.
    """
    if not settings.ledger:
        return settings.ledger_path
    if settings.ledger_path.exists():
        raise DatasiteError(
            f"The setting `ledger` names a database, and {settings.ledger_path} is there: that file is the ledger until"
            " it is moved. Move it with `datasite move-ledger`; or take the setting out to go on with the file."
        )
    return database_of(settings)


def database_of(settings: Settings) -> Database:
    """The database that the settings name."""
    file = settings.ledger_password_file
    return Database(settings.ledger, settings.directory / file if file else None)
