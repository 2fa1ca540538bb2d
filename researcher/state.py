"""A study's state on the researcher's disk, so that an interrupted one resumes without paying twice.

A study's directory is `.researcher/<function name>/` under the working directory, or `<function name>/` under
`RESEARCHER_DIR` where that is set. It holds releases and certificates (both differentially private already),
identifiers of code requests, and which answers each round was closed with: no password and nothing private. Every file
is replaced whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from filelock import FileLock, Timeout

from policies.errors import InvalidRequest, Unavailable, WeightsRefused
from policies.release.tensors import digest, from_bytes, to_bytes

ROLES = ("training", "evaluation", "curve", "statistics", "kaplan_meier", "regression")
Tensors = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Release:
    """One release that a hospital made and this study keeps.

    Args:
      hospital: its name.
      role: one of `ROLES`.
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
        text = self._content(path)
        if text is None:
            return {}
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise self._damaged(path)
        return data

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Replace a JSON file of the study."""
        self._replace(f"{name}.json", json.dumps(data, indent=2, sort_keys=True).encode())

    def read_tensors(self, name: str) -> dict[str, np.ndarray[Any, Any]] | None:
        """Tensors that were kept under `name`, or None."""
        path = self.directory / f"{name}.safetensors"
        content = self._content(path)
        try:
            return dict(from_bytes(content)) if content is not None else None
        except WeightsRefused:
            raise self._damaged(path) from None

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
        with self._used():
            lock = FileLock(self.directory / "lock", mode=0o600)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise Unavailable(
                    f"Another process is running this study ({self.directory}). Wait for it, or stop it and resume."
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _release(self, stem: str) -> Release | None:
        about, tensors = self.read(stem), self.read_tensors(stem)
        if not about or tensors is None:
            return None
        path = self.directory / f"{stem}.certificate.json"
        try:
            return Release(tensors=tensors, certificate=(self._content(path) or b"").decode(), **about)
        except (TypeError, UnicodeDecodeError):
            raise self._damaged(path) from None

    def _make(self) -> None:
        with self._used():
            (self.directory / "releases").mkdir(parents=True, exist_ok=True, mode=0o700)
            self.directory.chmod(0o700)

    def _replace(self, name: str, data: bytes) -> None:
        self._make()
        path = self.directory / name
        with self._used():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data)

    def _content(self, path: Path) -> bytes | None:
        with self._used():
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextmanager
    def _used(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"The study's directory {self.directory} cannot be used: {str(error.filename)[:200]}: {error.strerror}."
                " Mend that and resume, or give the study another place with state=..."
            ) from None

    def damaged(self, name: str) -> InvalidRequest:
        """The error for a JSON file of the study that is not what this software wrote."""
        return self._damaged(self.directory / f"{name}.json")

    def _damaged(self, path: Path) -> InvalidRequest:
        return InvalidRequest(
            f"{path} is damaged. Put it back from a copy; or move {self.directory} away and begin with submit() again:"
            " hospitals know what was asked and released, and none of it is charged again."
        )
