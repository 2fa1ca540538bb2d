"""Hold private rows in the serving process: a sealed table in memory that closes itself, and those lent to runs.

`PrivateRows` is the only object that holds a table where researchers' calls are answered. A job gets its open file, and
the file is closed as soon as nobody needs it. Whoever makes one hands the array over and keeps no reference to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import GroupedRows
from datasites.vault.tensor_files import OpenTensor
from policies.errors import IsolationMissing, Unavailable

MOST_UNUSED = 4  # tables of published versions that stay open while no run reads them
NAME = "rows"  # of the file in memory, as /proc shows it: the same for every table
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

_WRITTEN_AT_ONCE = 1 << 28  # bytes; Linux takes less than 2^31 in one call


Table = npt.NDArray[np.float64] | GroupedRows


class PrivateRows:
    """A table as a sealed file in memory (memfd), float64, little-endian, by rows; closed at the end of its `with`.

    Nobody can change it, the holder of its descriptor included. It has no telling `repr` and cannot be pickled or
    copied. What a job was sent stays readable in that job after this one is closed, and ends with the job.

    Args:
      table: float64 [N, columns]; N may be 0. Written from its own buffer where it is contiguous, without a copy. Of
        rows in groups, where each patient's begin is written after them.
      tensors: open files of what lies beside the table, which are closed with it: they stay on the disk.
    """

    __slots__ = ("__descriptor", "__patients", "__shape", "__tensors")

    def __init__(self, table: Table, tensors: Sequence[OpenTensor] = ()) -> None:
        self.__descriptor = -1  # for `close`, should nothing come of it
        self.__tensors = tuple(tensors)
        contiguous = np.ascontiguousarray(table, dtype="<f8")
        self.__shape = (int(contiguous.shape[0]), int(contiguous.shape[1]))
        begins: list[npt.NDArray[Any]] = []
        if isinstance(table, GroupedRows):
            begins = [np.ascontiguousarray(table.begins(held_out=side)) for side in (False, True)]
        self.__patients = tuple(len(part) - 1 for part in begins)
        self.__descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            for part in (contiguous, *begins):
                _write(self.__descriptor, part)
            fcntl.fcntl(self.__descriptor, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """The open file. Raises `Unavailable` once it is closed: the number may be another file's by then."""
        if self.__descriptor < 0:
            raise Unavailable("These private rows are closed already. Read the table again.")
        return self.__descriptor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns: as private as the rows."""
        return self.__shape

    @property
    def patients(self) -> tuple[int, ...]:
        """How many are in training and how many held out, where rows lie in groups; else nothing. As private."""
        return self.__patients

    @property
    def tensors(self) -> tuple[OpenTensor, ...]:
        """Open files of the tensors beside the rows: as private."""
        return self.__tensors

    def close(self) -> None:
        """Give the memory back; again is allowed."""
        for tensor in self.__tensors:
            tensor.close()
        descriptor, self.__descriptor = self.__descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return "PrivateRows(…)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise IsolationMissing("Private rows cannot be copied or pickled. Lend the one object, while its `with` lasts.")


def _write(descriptor: int, array: npt.NDArray[Any]) -> None:
    """Write a contiguous array from its own buffer."""
    view = array.reshape(-1).view(np.uint8).data
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written : written + _WRITTEN_AT_ONCE])


@dataclass
class _Lent:
    """One version's table, once it is read, and how many runs have it."""

    rows: PrivateRows | None = None
    users: int = 0
    reading: threading.Lock = field(default_factory=threading.Lock)


class PublishedRows:
    """The tables of published versions, each read once and lent to the runs that ask for it.

    A table opens with the first run on its version and stays open between runs for as long as `wanted` says so, which
    is while the version is published and work is not stopped: reading it takes 0.14 to 0.36 s, a study runs hundreds of
    rounds, and the same rows lie on disk for just as long. `close_unwanted` after anything that can end that (a new
    version, a retirement, a failed publication, a stop) closes what no run uses at once; what a run still uses closes
    when the last one gives it back, however that run ended. Of many published tables the `MOST_UNUSED` used last stay.

    Args:
      read: the table of a version; called by one run at a time of each version, and again after it was closed.
      wanted: whether a version's table may stay open while no run uses it.
      tensors: opens what lies beside the table of a version.
    """

    def __init__(
        self,
        read: Callable[[str], Table],
        wanted: Callable[[str], bool],
        tensors: Callable[[str], Sequence[OpenTensor]] = lambda version: (),
    ) -> None:
        self._read = read
        self._tensors = tensors
        self._wanted = wanted
        self._lock = threading.Lock()
        self._tables: dict[str, _Lent] = {}  # by version, the one used last at the end

    def __repr__(self) -> str:
        return "PublishedRows(…)"

    @contextlib.contextmanager
    def lend(self, version: str) -> Iterator[PrivateRows]:
        """The rows of a version, open while the `with` lasts. Raises what reading them raises."""
        with self._lock:
            lent = self._tables.setdefault(version, _Lent())
            lent.users += 1
        try:
            with lent.reading:
                if lent.rows is None:
                    lent.rows = PrivateRows(self._read(version), self._tensors(version))
            yield lent.rows
        finally:
            with self._lock:
                lent.users -= 1
                self._tables[version] = self._tables.pop(version)
                self._close_unwanted()

    def close_unwanted(self) -> None:
        """Close every table that no run uses and that is not wanted any more."""
        with self._lock:
            self._close_unwanted()

    def close(self) -> None:
        """Close every table, those in use when their runs end."""
        self._wanted = lambda _: False
        self.close_unwanted()

    def _close_unwanted(self) -> None:
        unused = [version for version, lent in self._tables.items() if not lent.users]
        kept = [version for version in unused if self._tables[version].rows is not None and self._may_stay(version)]
        for version in set(unused) - set(kept[-MOST_UNUSED:]):
            rows = self._tables.pop(version).rows
            if rows is not None:
                rows.close()

    def _may_stay(self, version: str) -> bool:
        try:
            return self._wanted(version)
        except Exception:  # who cannot be asked, as a ledger that is closed, does not want it
            return False
