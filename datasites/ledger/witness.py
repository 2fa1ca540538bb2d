"""The ledger's witness: a small file outside of the datasite's directory that knows how far the ledger has come.

Whoever puts an old copy of the directory back puts an old ledger back, and what was spent since the copy is forgotten.
The witness is not in the copy. After every transaction that makes an entry, one line is added to it: number and hash of
the last entry and, for each population, its budget and what is spent and reserved. A ledger whose chain does not go
through the newest line is behind its witness, or went another way, and is refused.

Crashes: the line is written after the ledger's commit, so the ledger may be one transaction ahead of its witness, which
is fine, and never behind. An entry is made only when everything before it is in the witness; so whatever a lost
transaction could have let out was reserved, and witnessed, before.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasites.ledger.amounts import COLUMNS, Amount, Charged
from datasites.ledger.budgets import FACTS, split_of, used_of
from datasites.ledger.chain import head_of, ledger_name
from policies.canonical import canonical
from policies.errors import LedgerBehind, LedgerDamaged, Unavailable

logger = logging.getLogger(__name__)
_LARGEST = 1 << 30  # bytes of a witness that are read


@dataclass(frozen=True)
class Seen:
    """One line of a witness.

    Args:
      ledger: the ledger's random name.
      seq, hash: of its last entry.
      populations: of each population, the facts of its budget and what was spent and reserved together: as `used` of
        the patients who train, and as `used_held_out` of those who are held out. A line of before there were two
        accounts has the first alone, which stands for both. `holdout` is the share of its patients that is held out,
        None where its two groups have no accounts of their own.
    """

    ledger: str
    seq: int
    hash: str
    populations: Mapping[str, Mapping[str, Any]]

    def holdout(self, population: str) -> float | None:
        """The share of a population that is held out, where its two groups have accounts of their own."""
        share: float | None = self.populations.get(population, {}).get("holdout")
        return share

    def used(self, population: str) -> Charged:
        """Spent and reserved of a population; nothing of an unknown one."""
        facts = self.populations.get(population, {})
        training = facts.get("used", ())
        return Charged(Amount(*training), Amount(*facts.get("used_held_out", training)))


class Witness:
    """The file, held alone by this process while it is open.

    Args:
      path: of the file; its directory must exist.
      new: make the file where there is none.

    `last` is the newest line, None of a new witness.

    Raises:
      Unavailable: another process holds it, or it cannot be read.
      LedgerBehind: it is missing, and `new` is not set.
      LedgerDamaged: a line of it cannot be read.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path = path
        self._owed: Seen | None = None  # a line that could not be written yet
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if new else 0), 0o600)
        except FileNotFoundError:
            raise _missing(path, new) from None
        except OSError as error:
            raise Unavailable(f"The witness {path} cannot be opened: {error.strerror}.") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.last, self._size = self._read()
        except BlockingIOError:
            self.close()
            raise Unavailable(f"The witness {path} is in use by another datasite. Give each its own.") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    @property
    def is_behind(self) -> bool:
        """Whether a line is owed that could not be written."""
        return self._owed is not None

    def newest_first(self) -> Iterator[Seen]:
        """Every line, the newest first."""
        for line in reversed(self._text().splitlines()):
            yield _seen(line)

    def check(self) -> None:
        """Raise `Unavailable` unless everything that the ledger holds is in the file, and the file is still ours."""
        try:
            there, ours = os.stat(self.path), os.fstat(self._file)
        except OSError as error:
            raise Unavailable(f"The witness {self.path} is gone: {error.strerror}. Nothing was done.") from None
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or there.st_size != self._size:
            raise Unavailable(
                f"The witness {self.path} was changed by somebody else. Nothing was done; start the datasite again."
            )
        if self._owed is not None:
            self.write(self._owed)

    def follow(self, db: sqlite3.Connection) -> None:
        """Add a line where the ledger has new entries. One that cannot be written is owed; `check` raises meanwhile."""
        seq, hash = head_of(db, "entries")
        if self.last is not None and (self.last.seq, self.last.hash) == (seq, hash):
            return
        try:
            self.write(state_of(db))
        except Unavailable:
            logger.error("The witness cannot be written. Nothing more is admitted until it can.")

    def write(self, seen: Seen) -> None:
        """Add a line, durable on return. Raises `Unavailable`."""
        self._owed = seen
        line = canonical(vars(seen) | {"populations": dict(seen.populations)}) + b"\n"
        try:
            written = os.pwrite(self._file, line, self._size)
            if written != len(line):
                raise OSError(0, "the volume is full")
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise Unavailable(
                f"The witness {self.path} cannot be written: {error.strerror}. Nothing is admitted until it can."
            ) from None
        self._size += len(line)
        self.last = seen
        self._owed = None

    def _text(self) -> bytes:
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            return file.read()

    def _read(self) -> tuple[Seen | None, int]:
        """The newest line, and where it ends; what a crash left of a line after it is cut off."""
        if os.fstat(self._file).st_size > _LARGEST:
            raise LedgerDamaged(f"{self.path} is too large for a witness. Look at the setting `witness`.")
        text = self._text()
        whole, last = text[: text.rfind(b"\n") + 1], None
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                last = _seen(line)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise LedgerDamaged(f"Line {number} of {self.path} is none of a witness. Put the file back.") from None
        if len(whole) != len(text):
            os.ftruncate(self._file, len(whole))
        return last, len(whole)


def state_of(db: sqlite3.Connection) -> Seen:
    """What a witness writes of the ledger as it is now."""
    populations = {}
    for row in db.execute("SELECT * FROM populations ORDER BY name").fetchall():
        training, held_out = used_of(db, row["name"]).accounts
        facts = {name: row[name] for name in FACTS}
        populations[row["name"]] = facts | {
            "used": list(training.as_row()),
            "used_held_out": list(held_out.as_row()),
            "holdout": split_of(db, row["name"]),
        }
    return Seen(ledger_name(db), *head_of(db, "entries"), populations)


def goes_through(db: sqlite3.Connection, seen: Seen) -> bool:
    """Whether the ledger's chain goes through the entry of a line."""
    if seen.seq == 0:
        return True
    row = db.execute("SELECT hash FROM entries WHERE seq = ?", (seen.seq,)).fetchone()
    return row is not None and row["hash"] == seen.hash


def check_not_behind(db: sqlite3.Connection, witness: Witness) -> None:
    """Raise `LedgerBehind` unless the chain goes through the witness's newest line."""
    last = witness.last
    if last is None:
        return
    if last.ledger != ledger_name(db):
        raise LedgerBehind(f"The witness {witness.path} is of another ledger. Look at the setting `witness`.")
    if goes_through(db, last):
        return
    seq = head_of(db, "entries")[0]
    way = "is behind" if seq < last.seq else "went another way than"
    raise LedgerBehind(
        f"The ledger {way} its witness: it ends at entry {seq}, and {witness.path} has seen entry {last.seq}. This is"
        " an old copy, and what was spent since is not in it. Put the newest copy back; or go on with this one with"
        " `datasite accept-restored --accept-older`, which charges what the witness knows and ends every approval.",
        seq=seq,
        witnessed=last.seq,
    )


def _missing(path: Path, new: bool) -> LedgerBehind | Unavailable:
    if new:
        return Unavailable(f"The witness {path} cannot be made: its directory does not exist. Mount its volume.")
    return LedgerBehind(
        f"This ledger has a witness, and {path} is missing. Mount its volume or put the file back; where it is lost,"
        " `datasite accept-restored` makes a new one, once you have said what was spent."
    )


def _seen(line: bytes) -> Seen:
    data = json.loads(line)
    populations = data["populations"]
    for facts in populations.values():
        if set(facts) - {"used_held_out", "holdout"} != {*FACTS, "used"}:
            raise ValueError(line)
        for used in (facts["used"], facts.get("used_held_out", facts["used"])):
            if len(used) != len(COLUMNS) or any(type(part) is not int or part < 0 for part in used):
                raise ValueError(line)
    if type(data["seq"]) is not int or not isinstance(data["hash"], str) or not isinstance(data["ledger"], str):
        raise ValueError(line)
    return Seen(data["ledger"], data["seq"], data["hash"], populations)
