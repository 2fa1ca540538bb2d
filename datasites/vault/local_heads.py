"""Parameters that a study trains and leaves at the hospital: what each of its rounds came to.

They are differentially private as a release is, noised and charged with it, and are no part of one: nothing hands them
out, and only rounds and evaluations of the study that trained them read them. A round's file is durable before its
release is settled, and counts only when it was: a round that was cut off begins again from what the last released one
left.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from datasites.files import replace_private, sync_directory
from policies.errors import Unavailable, WeightsRefused
from policies.graph.graphs import Graph
from policies.release.tensors import Shapes, check_tensors, from_bytes, to_bytes

Arrays = dict[str, npt.NDArray[Any]]


def local_shapes(graph: Graph) -> Shapes:
    """Names, shapes and dtypes of what stays."""
    return {parameter.name: (parameter.shape, parameter.dtype) for parameter in graph.local}


class LocalHeads:
    """Local parameters by training request and round.

    Args:
      directory: made when something is first kept.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, request: str, round_number: int, tensors: Arrays) -> None:
        """Keep what a round came to, in the place of what an attempt that was cut off left."""
        folder = self._folder(request)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(self.directory.parent)
        sync_directory(self.directory)
        replace_private(folder / _name(round_number), to_bytes(tensors))

    def after(self, request: str, rounds: Sequence[int], shapes: Shapes) -> Arrays | None:
        """What the last of these rounds came to; None where there is none of them.

        Args:
          rounds: of the request that were released.

        Raises `Unavailable` where the file is lost or damaged: nobody else has a copy.
        """
        if not rounds:
            return None
        path = self._folder(request) / _name(max(rounds))
        try:
            tensors = from_bytes(path.read_bytes())
            check_tensors(tensors, shapes, finite=False)
        except (OSError, WeightsRefused):
            raise Unavailable(
                f"The local parameters of round {max(rounds)} are lost or damaged. Put them back from a backup."
            ) from None
        return tensors

    def forget(self, request: str) -> bool:
        """Delete all of a request's; whether there were any."""
        folder = self._folder(request)
        if not folder.exists():
            return False
        shutil.rmtree(folder)
        sync_directory(self.directory)
        return True

    def forget_others(self, *, keep: Iterable[str]) -> None:
        """Delete those of all requests but these."""
        kept = {self._folder(request) for request in keep}
        with contextlib.suppress(FileNotFoundError):
            for folder in list(self.directory.iterdir()):
                if folder not in kept:
                    shutil.rmtree(folder)

    def _folder(self, request: str) -> Path:
        return self.directory / hashlib.sha256(request.encode()).hexdigest()[:32]


def _name(round_number: int) -> str:
    return f"{round_number:05d}.safetensors"
