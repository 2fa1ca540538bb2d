"""Files that only the datasite's own user can read, durable when a call returns."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def refused_by_system(error: OSError) -> str:
    """What the operating system refused, in one sentence: the file where there is one, why, and what to do."""
    where = f"{str(error.filename)[:200]}: " if error.filename else ""
    return f"{where}{error.strerror or type(error).__name__}. Mend the path, its rights or the disk, and try again."


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file (0600) in place. A crash may leave it half written; `replace_private` does not."""
    _write(path, content, os.O_TRUNC)
    sync_directory(path.parent)


def replace_private(path: Path, content: str | bytes) -> None:
    """Give a file (0600) a new content at once: who reads it, also after a crash, sees the old or the new one whole.

    The content grows in a file beside it, as `.settings.toml.4f1c22d0.new`. A crash may leave that one, and nobody
    reads it.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        _write(draft, content, os.O_EXCL)
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: those that were made, renamed and deleted."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: str | bytes, flag: int) -> None:
    data = content.encode() if isinstance(content, str) else content  # before the old content is gone
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
