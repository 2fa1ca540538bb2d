"""Notice a patient who is in two populations, by keyed hashes of identifiers. For the owner alone.

A patient has one mark on a datasite: 64 bits of HMAC-SHA256 under the population secret, of which the hold-out takes
others. The marks of each published version lie in `publications/` in the datasite's directory, beside the rows that
they come from; of a version that is retired a uniform sample stays, so that its patients are recognised when they come
back under another population's name. Whoever has not the secret learns nothing from marks; they never leave the
directory.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasites.files import replace_private

FOLDER = "publications"
ENDING = ".marks"
MOST_KEPT = 1_024  # of a version that is retired

Marks = npt.NDArray[np.uint64]


def folder(directory: Path) -> Path:
    """Where publications keep what is the owner's alone (0700)."""
    path = directory / FOLDER
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def keep_marks(directory: Path, version: str, marks: Marks) -> None:
    """Keep the marks of a version's patients."""
    replace_private(folder(directory) / f"{version}{ENDING}", np.sort(marks).astype("<u8").tobytes())


def thin_marks(directory: Path, version: str) -> None:
    """Leave a sample of a version's marks: those that are smallest, which is uniform as marks are."""
    path = directory / FOLDER / f"{version}{ENDING}"
    if path.exists() and path.stat().st_size > 8 * MOST_KEPT:
        replace_private(path, path.read_bytes()[: 8 * MOST_KEPT])


def shared_patients(directory: Path, version: str, marks: Marks, *, whole: bool) -> int:
    """How many of the patients with these marks a version has; about so many, where a sample of it is left.

    Args:
      whole: whether all marks of the version are kept, which are those of a published one.
    """
    path = directory / FOLDER / f"{version}{ENDING}"
    if not path.exists():  # published before there were marks
        return 0
    kept: Marks = np.frombuffer(path.read_bytes(), dtype="<u8").astype(np.uint64)
    found = int(np.count_nonzero(np.isin(marks, kept, assume_unique=False)))
    if whole or len(kept) < MOST_KEPT:
        return found
    # The sample is every mark up to its largest, so of these patients too it shows that share.
    share = (int(kept[-1]) + 1) / 2**64
    return min(len(marks), round(found / share))


def forget_unknown(directory: Path, known: set[str]) -> None:
    """Remove what a publication that never ended has left: all of versions that are not known."""
    if (directory / FOLDER).is_dir():
        for name in os.listdir(directory / FOLDER):
            if name.partition(".")[0] not in known and not name.startswith("."):
                (directory / FOLDER / name).unlink(missing_ok=True)
