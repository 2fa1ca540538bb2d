"""Keys that signed-in clients sign with: another one ends every client that has the one before.

PySyft gives an account one key for ever, and hands the owner the server's own. Here a researcher's key changes with the
password and where the account is closed; all that it owns follows it. The owner's clients have a key of their own, in
`owner.key`: the server's, which signs every answer and which researchers remember, never leaves this host.
"""

import secrets
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from syft.server.credentials import SyftSigningKey, SyftVerifyKey

from datasites.directory import secret
from datasites.files import replace_private

NAME = "owner.key"


class OwnerKey:
    """The key of the owner's clients, in a directory; made at the first sign-in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: SyftSigningKey | None = None
        if (directory / NAME).exists():
            self._known = SyftSigningKey.from_string(secret(directory, NAME))

    def signing_key(self) -> SyftSigningKey:
        """What an owner who signs in is given."""
        return self._known or self.renew()

    def renew(self) -> SyftSigningKey:
        """Another key: clients with the one before are signed in no more."""
        text = secrets.token_hex(32)
        replace_private(self._directory / NAME, text)
        self._known = SyftSigningKey.from_string(text)
        return self._known

    def signs(self, credentials: SyftVerifyKey) -> bool:
        """Whether a key is the one of the owner's clients."""
        return self._known is not None and self._known.verify_key == credentials


def renew_key(db: Any, user: Any) -> None:
    """Give a researcher's account another key, in one transaction with all rows that name the one before.

    PySyft keeps keys as hex in JSON texts: 64 random digits, which are nothing else wherever they stand.
    """
    new = SyftSigningKey.generate()
    changes = {str(user.signing_key): str(new), str(user.verify_key): str(new.verify_key)}
    with db.engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            columns = {column["name"] for column in sa.inspect(connection).get_columns(table)}
            for column in sorted(columns & {"fields", "permissions"}):
                for old, key in changes.items():
                    connection.execute(
                        sa.text(
                            f'UPDATE "{table}" SET {column} = replace({column}, :old, :new) WHERE instr({column}, :old)'
                        ),
                        {"old": old, "new": key},
                    )
