"""What PySyft keeps of researchers' calls: a bounded part of the disk for each account, forgotten after a day.

PySyft keeps every uploaded argument and every answer for ever: one account could fill the hospital's disk. Nothing is
lost with them: weights are sent again, and releases stay in the ledger. An answer that says no more than "running" is
kept for no day either: the last few of each account are held in memory, for a stock client that fetches what it was
just told.
"""

import math
import shutil
import threading
import time
from collections import defaultdict, deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from syft.server.credentials import SyftVerifyKey
from syft.service.action.action_object import ActionObject
from syft.types.errors import SyftException
from syft.types.twin_object import TwinObject
from syft.types.uid import UID

from datasites.door.syft.guard import Refused

KEPT = timedelta(days=1)
SWEPT_EVERY = 3600.0  # seconds
LEAST_BYTES = 4096  # what each object takes at least: its row and its file
KEPT_FREE = 256 << 20  # bytes of the disk that are the ledger's, whatever is uploaded
DISK_FULL = "The datasite's disk is nearly full, and takes no uploads now. Ask its operator to make room."
TOO_MUCH = (
    "Your uploads and answers take {held:,} MiB here and an account may keep {most:,} MiB. They are forgotten after a"
    " day; try again then, or ask the hospital for more room (uploads_mib in its settings)."
)


class PassingAnswers:
    """Answers without a release, held in memory until the same account has been given some more. For many threads.

    Args:
      most: of one account; none pushes out another's.
    """

    def __init__(self, *, most: int = 20) -> None:
        self._held: defaultdict[str, deque[ActionObject]] = defaultdict(lambda: deque(maxlen=most))
        self._lock = threading.Lock()

    def keep(self, credentials: SyftVerifyKey, answer: ActionObject) -> None:
        """Hold an answer for the account that it is for."""
        with self._lock:
            self._held[str(credentials)].append(answer)

    def find(self, credentials: SyftVerifyKey, uid: UID) -> ActionObject | None:
        """The answer of this identifier that the account was given, or None."""
        with self._lock:
            held = self._held.get(str(credentials), ())
            return next((answer for answer in held if answer.id == uid), None)


class Uploads:
    """Counts what each account keeps in PySyft's stores, and deletes what is old. Safe to use from many threads.

    Args:
      actions, blobs: PySyft's stashes of objects and of blobs' entries.
      directory: on the disk that they share with the ledger.
      most: bytes that one account may keep.
    """

    def __init__(self, actions: Any, blobs: Any, directory: Path, *, most: int) -> None:
        self.actions, self.blobs, self.directory, self.most = actions, blobs, directory, most
        self._held: dict[str, int] = {}
        self._swept = -math.inf
        self._lock = threading.Lock()

    def take(self, credentials: SyftVerifyKey, size: int) -> None:
        """Note `size` more bytes of an account. Raises `Refused` where it may keep no more, or the disk has no room."""
        with self._lock:
            if shutil.disk_usage(self.directory).free < size + KEPT_FREE:
                raise Refused(DISK_FULL)
            if time.monotonic() - self._swept > SWEPT_EVERY:
                self.forget_old()
                self._swept = time.monotonic()
            account = str(credentials)
            if account not in self._held:
                self._held[account] = self._count(account)
            held = self._held[account] + max(size, LEAST_BYTES)
            if held > self.most:
                raise Refused(TOO_MUCH.format(held=self._held[account] >> 20, most=self.most >> 20))
            self._held[account] = held

    def forget_old(self) -> None:
        """Delete what is older than `KEPT`, save tables and their mocks."""
        before = (datetime.now(UTC) - KEPT).replace(tzinfo=None)
        kind = sa.func.json_extract(self.actions.table.c.fields, "$.__canonical_name__")
        twin = TwinObject.__canonical_name__
        tables = [self._found(self.actions, uid) for uid in self._select(self.actions, kind == twin)]
        sides = [side for each in tables if each is not None for side in (each.private_obj, each.mock_obj)]
        kept = {str(side.syft_blob_storage_entry_id) for side in sides}
        for uid in self._select(self.actions, kind != twin, self.actions.table.c._created_at < before):
            self._delete_row(self.actions, uid)
        for uid in self._select(self.blobs, self.blobs.table.c._created_at < before):
            if str(uid) not in kept:
                self._delete_blob(uid)
        self._held.clear()

    def _count(self, account: str) -> int:
        """Bytes that an account keeps, by its rows."""
        total = 0
        for stash, size in (
            (self.actions, sa.func.length(self.actions.table.c.fields)),
            (self.blobs, sa.func.json_extract(self.blobs.table.c.fields, "$.file_size")),
        ):
            owned = sa.cast(stash.table.c.permissions, sa.Text).contains(f"{account}_OWNER", autoescape=True)
            with stash.sessionmaker() as session:
                total += session.scalar(sa.select(sa.func.sum(sa.func.max(size, LEAST_BYTES))).where(owned)) or 0
        return total

    @staticmethod
    def _select(stash: Any, *where: Any) -> list[UID]:
        with stash.sessionmaker() as session:
            return list(session.scalars(sa.select(stash.table.c.id).where(*where)))

    @staticmethod
    def _found(stash: Any, uid: UID) -> Any:
        try:
            return stash.get_by_uid(None, uid, has_permission=True).unwrap()
        except SyftException:
            return None

    def _delete_blob(self, uid: UID) -> None:
        entry = self._found(self.blobs, uid)
        if entry is not None:
            Path(entry.location.path).unlink(missing_ok=True)  # first the file: its row still names it after a crash
            self._delete_row(self.blobs, uid)

    @staticmethod
    def _delete_row(stash: Any, uid: UID) -> None:
        with stash.sessionmaker() as session, session.begin():
            session.execute(stash.table.delete().where(stash.table.c.id == uid))
