"""Public weights that requests name by digest: sent once, kept as files of their own, checked at each use.

What is here is public by its researcher's word, and nothing tells whether that word is true. Files lie by researcher
and by digest, so that nobody learns what another has sent. One comes in parts, each within the bound of a body, and
counts only when all of it has the names, shapes and digest that an inspected request declares, and finite values alone.
A file that is lost or damaged is asked for again: it is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from datasites.files import replace_private, sync_directory
from policies.errors import Unavailable, WeightsRefused
from policies.graph.graphs import Graph
from policies.release.tensors import Shapes, check_tensors, digest, from_bytes, to_bytes

Arrays = dict[str, npt.NDArray[Any]]
LARGEST_PART = 4 << 20
KEPT_FREE = 256 << 20  # bytes of the disk that are the ledger's, whatever is sent
_HEADER = 1 << 20  # of the file's names and shapes


@dataclass(frozen=True)
class Taken:
    """Whether weights are kept whole, and how many bytes of them are here."""

    kept: bool
    have: int


def constant_shapes(graph: Graph) -> Shapes:
    """Names, shapes and dtypes of what a request's digest of public weights is of."""
    return {parameter.name: (parameter.shape, parameter.dtype) for parameter in graph.constants}


class PublicWeights:
    """The public weights of a datasite's researchers. For all threads of a process.

    Args:
      directory: made when something is first kept.
      most: bytes that those of one researcher may take together.
    """

    def __init__(self, directory: Path, *, most: int) -> None:
        self.directory, self.most = directory, most
        self._lock = threading.Lock()

    def has(self, researcher: str, wanted: str) -> bool:
        """Whether this researcher has sent weights of this digest."""
        return self._path(researcher, wanted).exists()

    def take(self, researcher: str, wanted: str, shapes: Shapes, *, begin: int, size: int, content: bytes) -> Taken:
        """Take the next part of a file of safetensors; whether all of it is kept now, and how many bytes are here.

        Args:
          wanted: digest of the tensors.
          shapes: that they must have.
          begin: where this part begins in the file. One that begins elsewhere than where the last ended is not taken.
          size: of the whole file.
          content: b"" only asks what is here.

        Raises:
          WeightsRefused: it is larger than those weights, the researcher keeps as much as one may, or the whole is not
            those weights. Nothing of it stays then.
        """
        path = self._path(researcher, wanted)
        growing = path.with_name(f".{path.name}.new")
        with self._lock:
            if path.exists():
                return Taken(True, size)
            have = growing.stat().st_size if growing.exists() else 0
            if not content or begin != have:
                return Taken(False, have)
            largest = _HEADER + sum(4 * math.prod(shape) for shape, _ in shapes.values())
            if len(content) > LARGEST_PART or not have + len(content) <= size <= largest:
                raise WeightsRefused(
                    f"{len(content):,} bytes of a file of {size:,} came for {len(shapes)} tensors of at most"
                    f" {largest:,} bytes. Send those, as float32, in parts of at most {LARGEST_PART:,} bytes."
                )
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = sum(file.stat().st_size for file in path.parent.iterdir()) - have + size
            if held > self.most:
                raise WeightsRefused(
                    f"Your public weights would take {held >> 20:,} MiB here, and {self.most >> 20:,} MiB are the most"
                    " (public_weights_mib in the hospital's settings). Withdraw requests that you need no more, or ask"
                    " the hospital for more."
                )
            if shutil.disk_usage(path.parent).free < size + KEPT_FREE:
                raise WeightsRefused("The datasite's disk is nearly full. Ask its operator to make room.")
            with growing.open("ab") as file:
                growing.chmod(0o600)
                file.write(content)
            if have + len(content) < size:
                return Taken(False, have + len(content))
            try:
                replace_private(path, to_bytes(_checked(growing.read_bytes(), wanted, shapes)))
            finally:
                growing.unlink(missing_ok=True)
            return Taken(True, size)

    def load(self, researcher: str, wanted: str, shapes: Shapes) -> Arrays:
        """Weights of this digest, checked anew.

        Raises:
          WeightsRefused: they were never sent.
          Unavailable: the file is not what was kept; it is deleted, to be sent again.
        """
        path = self._path(researcher, wanted)
        try:
            content = path.read_bytes()
        except OSError:
            raise WeightsRefused(_NOT_HERE.format(wanted=wanted[:12])) from None
        try:
            return _checked(content, wanted, shapes)
        except WeightsRefused:
            path.unlink(missing_ok=True)
            raise Unavailable(f"The public weights {wanted[:12]}… were damaged on disk. Send them again.") from None

    def check_here(self, researcher: str, wanted: str) -> None:
        """Raise `WeightsRefused` where they were never sent."""
        if not self.has(researcher, wanted):
            raise WeightsRefused(_NOT_HERE.format(wanted=wanted[:12]))

    def forget(self, *, keep: Iterable[tuple[str, str]]) -> None:
        """Delete all but those of these researchers and digests, and what never came whole."""
        kept = {self._path(researcher, wanted) for researcher, wanted in keep}
        with self._lock, contextlib.suppress(FileNotFoundError):
            for folder in list(self.directory.iterdir()):
                for path in list(folder.iterdir()):
                    if path not in kept:
                        path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    folder.rmdir()
            sync_directory(self.directory)

    def _path(self, researcher: str, wanted: str) -> Path:
        folder = hashlib.sha256(researcher.encode()).hexdigest()[:32]
        return self.directory / folder / f"{hashlib.sha256(wanted.encode()).hexdigest()}.safetensors"


_NOT_HERE = (
    "This datasite does not have the public weights {wanted}… that the request names. Send them first, as study.run()"
    " does; nothing was charged."
)


def _checked(content: bytes, wanted: str, shapes: Shapes) -> Arrays:
    tensors = from_bytes(content)
    check_tensors(tensors, shapes, finite=True)
    if digest(tensors) != wanted:
        raise WeightsRefused(f"These are not the public weights {wanted[:12]}… that the request names. Send those.")
    return tensors
