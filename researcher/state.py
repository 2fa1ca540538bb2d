"""What a study keeps on the researcher's disk, so that an interrupted one goes on without paying twice.

A study's directory is `.researcher/<function name>/` under the working directory, or `<function name>/` under
`RESEARCHER_DIR` where that is set. It holds releases and certificates (both differentially private already),
identifiers of code requests, and which answers each round was closed with: no password and nothing private. Every file
is replaced whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from policies.errors import Unavailable
from policies.release.tensors import digest, from_bytes, to_bytes

ROLES = ("training", "evaluation", "statistics")
Tensors = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Release:
    """One release that a hospital made and this study keeps.

    Args:
      hospital: its name.
      role: `"training"`, `"evaluation"` or `"statistics"`.
      round: of the request, from 1.
      tensors: what was released.
      certificate: the signed statement, a JSON text.
      weights_digest: of what was sent with the question, or "" where nothing was.
    """

    hospital: str
    role: str
    round: int
    tensors: Tensors
    certificate: str
    weights_digest: str

    @property
    def digest(self) -> str:
        """Canonical digest of the tensors, as the certificate states it."""
        return digest(self.tensors)

    def about(self) -> dict[str, Any]:
        """What it is, without tensors and certificate."""
        return {name: getattr(self, name) for name in ("hospital", "role", "round", "weights_digest")}

    @property
    def stem(self) -> str:
        """Name of its files, without an ending."""
        return f"{self.role}-{quote(self.hospital, safe='')}-{self.round:03d}"


def default_directory(function: str) -> Path:
    """Where a study called `function` keeps its state; see the module's text."""
    return Path(os.environ.get("RESEARCHER_DIR") or ".researcher") / function


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class StudyState:
    """The directory of one study. Made, with mode 0700, when something is first written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the study; empty where it was never written."""
        path = self.directory / f"{name}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Replace a JSON file of the study."""
        self._replace(f"{name}.json", json.dumps(data, indent=2, sort_keys=True).encode())

    def read_tensors(self, name: str) -> dict[str, np.ndarray[Any, Any]] | None:
        """Tensors that were kept under `name`, or None."""
        path = self.directory / f"{name}.safetensors"
        return dict(from_bytes(path.read_bytes())) if path.exists() else None

    def write_tensors(self, name: str, tensors: Tensors) -> None:
        """Keep tensors under `name`."""
        self._replace(f"{name}.safetensors", to_bytes(tensors))

    def keep(self, release: Release) -> None:
        """Keep a release with its certificate. The last file written is the one that makes it count."""
        stem = f"releases/{release.stem}"
        self.write_tensors(stem, release.tensors)
        self._replace(f"{stem}.certificate.json", release.certificate.encode())
        self.write(stem, release.about())

    def releases(self) -> list[Release]:
        """Every release kept, in order of role, hospital and round."""
        paths = sorted((self.directory / "releases").glob("*.json"))
        return [
            release
            for path in paths
            if not path.name.endswith(".certificate.json")
            and (release := self._release(f"releases/{path.name.removesuffix('.json')}"))
        ]

    def release(self, role: str, hospital: str, round: int, weights_digest: str) -> Release | None:
        """The release kept for this question, or None. One for other weights is not it."""
        kept = self._release(f"releases/{role}-{quote(hospital, safe='')}-{round:03d}")
        return kept if kept and kept.weights_digest == weights_digest else None

    def asked_with(self, role: str, hospital: str, round: int) -> str:
        """Digest of the weights for which a release of this round is kept, or "" where none is."""
        about = self.read(f"releases/{role}-{quote(hospital, safe='')}-{round:03d}")
        return str(about.get("weights_digest", ""))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for this process. Raises `Unavailable` where another process runs it."""
        self._make()
        with (self.directory / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(
                    f"Another process is running this study ({self.directory}). Wait for it, or stop it and resume."
                ) from None
            yield

    def _release(self, stem: str) -> Release | None:
        about, tensors = self.read(stem), self.read_tensors(stem)
        if not about or tensors is None:
            return None
        certificate = (self.directory / f"{stem}.certificate.json").read_text()
        return Release(tensors=tensors, certificate=certificate, **about)

    def _make(self) -> None:
        (self.directory / "releases").mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)

    def _replace(self, name: str, data: bytes) -> None:
        self._make()
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
