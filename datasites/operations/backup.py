"""Back up a datasite's directory to one file while it serves, and restore a directory from one.

A backup holds everything that the directory does: private rows, keys, accounts, ledger. Whoever has it has the
datasite, so it needs the same care; encrypt it with a tool of yours, such as `age` or `gpg`.

Consistency comes from the order. The ledger is copied first, at one moment. All that it speaks of (requests, tables,
accounts) was stored before it was entered, so it is in what is copied after, and what is deleted, tables that are no
longer published, is deleted only when the copy is done. What PySyft has beyond the ledger is removed at the next start,
as after a crash.

The file is a plain tar: regular files under short names, and `manifest.json` at its end with size and SHA-256 of each.
Nothing else is read: no links, devices, directories, extensions or compression.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import stat
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from datasites.files import sync_directory
from datasites.ledger.audit_log import AuditLog
from datasites.ledger.chain import Head
from datasites.ledger.ledger import Ledger
from datasites.people.moving import copy_accounts
from datasites.people.places import accounts_database
from datasites.settings import Settings
from policies.errors import DatasiteError, Unavailable

FORMAT = 1
MANIFEST = "manifest.json"
LEDGER = "ledger.db"
DATABASES = ("datasite.db", "calls.db", "console.db")
NEEDED = frozenset({LEDGER, "settings.toml", "policy.toml", "syft.id", "syft.key", "certificate.pem"})
LARGEST_MANIFEST = 64 << 20
_LEFT_OUT = re.compile(r".*(-wal|-shm|-journal|\.sock|\.out|\.log(\.\d+)?)|\..*\.new|lock|last_backup|secure_sums\.db")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+ -]*(/[A-Za-z0-9_][A-Za-z0-9_.@+ -]*){0,3}")
_BLOCK = tarfile.BLOCKSIZE


# -- making ----------------------------------------------------------------------------------------------------------


def partial_path(target: Path) -> Path:
    """Where a backup grows before it has its name."""
    return target.with_name(f".{target.name}.partial")


def write_backup(settings: Settings, ledger: Ledger, target: Path) -> dict[str, Any]:
    """Copy the directory into the new file `target` (0600); answers its size, and the ledger's last entry in it.

    While this runs, no table may be deleted (`Datasite.holding_tables`); all else goes on.

    Raises:
      DatasiteError: the file exists, would lie in the directory, or its own directory does not exist.
      Unavailable: another backup to the file runs, or the file cannot be written; nothing of it stays.
    """
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise DatasiteError(f"{target} exists. A backup overwrites nothing: choose another name.")
    if not target.parent.is_dir():
        raise DatasiteError(f"{target.parent} is no directory. Make it first.")
    if target.parent.resolve().is_relative_to(settings.directory):
        raise DatasiteError(
            f"{target} would lie in the datasite's own directory. Choose a place outside, best a volume."
        )
    partial = partial_path(target)
    try:
        with _growing(partial) as file:
            manifest = _write(settings, ledger, file, partial.with_name(f"{partial.name}.d"))
            size = file.tell()
            _publish(partial, target)
    except OSError as error:
        raise Unavailable(f"The backup {target} cannot be written: {error.strerror}. Nothing of it was kept.") from None
    return {"file": str(target), "bytes": size, "entries": manifest["entries"], "head": manifest["head"]}


@contextlib.contextmanager
def _growing(partial: Path) -> Iterator[IO[bytes]]:
    """The unnamed file, locked; it is removed where it was not given its name."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"Another backup is being written there, as {partial}. Let it finish.") from None
        try:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(0)
            yield file
        finally:
            partial.unlink(missing_ok=True)


def _publish(partial: Path, target: Path) -> None:
    try:
        os.link(partial, target)
    except FileExistsError:
        raise DatasiteError(f"{target} was made by somebody else meanwhile. Choose another name.") from None
    except OSError:  # a volume without hard links
        os.rename(partial, target)
    sync_directory(target.parent)


def _write(settings: Settings, ledger: Ledger, file: IO[bytes], scratch: Path) -> dict[str, Any]:
    shutil.rmtree(scratch, ignore_errors=True)  # of a backup that was killed
    scratch.mkdir(mode=0o700)
    files: dict[str, list[Any]] = {}
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            ledger.backup(scratch / LEDGER)
            head = _head(scratch / LEDGER)
            files[LEDGER] = _add(tar, LEDGER, scratch / LEDGER)
            for name in DATABASES:
                if (settings.directory / name).exists():  # those of the console are in it or in a database
                    _copy_database(settings.directory / name, scratch / name)
                    files[name] = _add(tar, name, scratch / name)
                    (scratch / name).unlink()
            if settings.ledger:
                accounts = copy_accounts(accounts_database(settings), scratch)
                files[accounts.name] = _add(tar, accounts.name, accounts)
                accounts.unlink()
            for name in _names(settings.directory):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    files[name] = _add(tar, name, settings.directory / name)
            manifest = {
                "format": FORMAT,
                "name": settings.name,
                "taken_at": taken_at,
                "software": metadata.version("private-datasites"),
                "entries": head[0],
                "head": head[1],
                "files": files,
            }
            text = json.dumps(manifest, sort_keys=True).encode()
            tar.addfile(_header(MANIFEST, len(text)), io.BytesIO(text))
        file.flush()
        os.fsync(file.fileno())
        return manifest
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _names(directory: Path) -> list[str]:
    """Every regular file but databases, which are copied otherwise, sockets, locks, logs and drafts."""
    names = []
    for folder, _, filenames in os.walk(directory):
        for filename in filenames:
            path = Path(folder) / filename
            name = str(path.relative_to(directory))
            if _LEFT_OUT.fullmatch(filename) or name in (LEDGER, *DATABASES) or path.is_symlink() or not path.is_file():
                continue
            if not _NAME.fullmatch(name) or len(name) > 100:
                raise DatasiteError(f"{path} has a name that a backup cannot hold. Move it out of the directory.")
            names.append(name)
    return sorted(names)


class _Digesting:
    """A file that is read once, with the digest of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self.file.read(size)
        self.digest.update(part)
        return part


def _add(tar: tarfile.TarFile, name: str, path: Path) -> list[Any]:
    """Add one file as long as it is now; its size and digest."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        reader = _Digesting(file)
        tar.addfile(_header(name, size), reader)
        return [size, reader.digest.hexdigest()]


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    return header


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that others may be writing."""
    uri = f"{source.absolute().as_uri()}?mode=rw"
    try:
        with (
            contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as there,
            contextlib.closing(sqlite3.connect(target)) as here,
        ):
            there.backup(here)
    except sqlite3.Error as error:
        raise Unavailable(f"{source.name} cannot be copied now ({error.sqlite_errorname}). Try again.") from None


def _head(ledger: Path) -> Head:
    with Ledger.open(ledger) as copy:
        return copy.entries.head()


# -- putting back ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restored:
    """A directory that was made of a backup.

    Args:
      name: of the datasite.
      taken_at: when the backup was made.
      entries: of its ledger.
      kind: of the ledger's last entry; empty where there is none, as is `newest`.
      newest: when that entry was made.
      witness: of its settings; empty where they name none.
    """

    name: str
    taken_at: str
    entries: int
    kind: str
    newest: str
    witness: str


def restore(file: Path, directory: Path, *, actor: str) -> Restored:
    """Make `directory` of a backup, or nothing at all. Its ledger verifies, and is closed until it is accepted.

    Raises:
      DatasiteError: the directory exists and is not empty, or the file is no sound backup; says which.
      LedgerDamaged: the ledger in it does not verify.
    """
    directory = directory.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise DatasiteError(f"{directory} exists and is not empty. Choose another --dir, or remove it yourself.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = directory.parent / f".{directory.name}.{uuid.uuid4().hex[:8]}"
    building.mkdir(mode=0o700)
    try:
        manifest = _extract(file, building)
        settings = Settings.load(building)
        with Ledger.open(building / LEDGER) as ledger:
            head = ledger.verify()
            AuditLog(ledger.store).verify()
            if list(head) != [manifest["entries"], manifest["head"]]:
                raise _unsound(file, "its ledger is not the one that its manifest names")
            ledger.recovery.mark_restored(actor=actor, copy_of=head.seq, taken_at=str(manifest["taken_at"]))
            AuditLog(ledger.store).record(actor, "restore", "", entries=head.seq, taken_at=str(manifest["taken_at"]))
            newest = ledger.entries.list(limit=1, before=head.seq + 1, newest_first=True)
        _sync_tree(building)
        if directory.exists():
            directory.rmdir()
        os.rename(building, directory)
        sync_directory(directory.parent)
    except BaseException as error:
        shutil.rmtree(building, ignore_errors=True)
        if isinstance(error, OSError):
            raise Unavailable(f"{directory} cannot be made of {file}: {error.strerror}.") from None
        raise
    return Restored(
        name=settings.name,
        taken_at=str(manifest["taken_at"]),
        entries=head.seq,
        kind=newest[0].kind.value if newest else "",
        newest=newest[0].at if newest else "",
        witness=settings.witness,
    )


def _extract(file: Path, building: Path) -> dict[str, Any]:
    """Write every member under `building` and check all of them against the manifest, which comes last."""
    extracted: dict[str, list[Any]] = {}
    text: bytes | None = None
    with file.open("rb") as source:
        status = os.fstat(source.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _unsound(file, "it is no regular file")
        for name, size in _members(file, source, status.st_size):
            if text is not None:
                raise _unsound(file, f"{name!r} comes after its manifest")
            if name == MANIFEST:
                if size > LARGEST_MANIFEST:
                    raise _unsound(file, "its manifest is too large")
                text = source.read(size)
            else:
                if name in extracted:
                    raise _unsound(file, f"{name!r} is in it twice")
                extracted[name] = [size, _extract_one(source, building / name, size)]
    try:
        manifest: dict[str, Any] = json.loads(text or b"")
        listed, (version, *_) = manifest["files"], (manifest["format"], manifest["entries"], manifest["taken_at"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unsound(file, "it has no manifest that can be read; its end may be missing") from None
    if version != FORMAT:
        raise _unsound(file, f"it has format {version!r} and this software reads {FORMAT}")
    if listed != extracted:
        raise _unsound(file, "a file in it is not the one that its manifest names")
    if missing := NEEDED - set(extracted):
        raise _unsound(file, f"{', '.join(sorted(missing))} is missing")
    return manifest


def _members(file: Path, source: IO[bytes], size: int) -> Iterator[tuple[str, int]]:
    """(name, size) of each member, with `source` at its first byte. Only plain files under plain names."""
    while True:
        block = source.read(_BLOCK)
        if block == bytes(_BLOCK):
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            raise _unsound(file, "it is no tar file, or its end is missing") from None
        begin = source.tell()
        plain = header.type == tarfile.REGTYPE and _NAME.fullmatch(header.name)
        if not plain or not 0 <= header.size <= size - begin:
            raise _unsound(file, f"{header.name[:100]!r} in it is no plain file")
        yield header.name, header.size
        source.seek(begin + -(-header.size // _BLOCK) * _BLOCK)


def _extract_one(source: IO[bytes], path: Path, size: int) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while size:
            part = source.read(min(size, 1 << 20))
            if not part:
                break
            digest.update(part)
            file.write(part)
            size -= len(part)
    return digest.hexdigest()


def _unsound(file: Path, why: str) -> DatasiteError:
    return DatasiteError(f"{file} cannot be restored: {why}. Nothing was made. Use another copy.")


def _sync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))
