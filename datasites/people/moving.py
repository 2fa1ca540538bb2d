"""The console's accounts, sessions and invitations moved from their file into the ledger's database, or copied out."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from datasites.files import sync_directory
from datasites.people.places import FILE, SealedDatabase, open_rows
from policies.errors import DatasiteError

MOVED = "console.moved.db"
"""The name of the accounts' file once they are elsewhere: nothing opens it."""


def move_accounts(file: Path, place: SealedDatabase) -> int:
    """Move what `file` holds into the database; answers how many accounts. The file is renamed to `MOVED` after it.

    Nobody may have either open. Interrupted at any moment, it is done again and ends the same.

    Raises:
      DatasiteError: the database has other accounts, or the file is damaged.
      Unavailable: the database does not answer; the accounts are still in the file.
    """
    with closing(open_rows(file)) as before, closing(open_rows(place)) as after:
        wanted, there = before.everything(), after.everything()
        if there != wanted:
            if any(there.values()):
                raise DatasiteError(
                    f"The database has other accounts of a console. Nothing was moved out of {file.name}: name an empty"
                    " database, or put that file away if the database is what counts."
                )
            after.fill(wanted)
    os.rename(file, file.with_name(MOVED))
    sync_directory(file.parent)
    return len(wanted["users"])


def copy_accounts(place: SealedDatabase, folder: Path) -> Path:
    """What the database holds at one moment, in a new file `FILE` in `folder`, as a backup has it."""
    path = folder / FILE
    with closing(open_rows(place)) as rows, closing(open_rows(path)) as copy:
        copy.fill(rows.everything())
    return path
