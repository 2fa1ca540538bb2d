"""Tensors of published records on disk: a folder for each version, a file for each tensor, entry i of row i.

Files are numpy's own (`.npy`), of the schema's shape and dtype: every record takes as many bytes. They are mapped,
never read whole, so a job takes no more memory than it uses of them at a time. Nothing but numbers is in them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.files import sync_directory
from policies.errors import DatasiteError
from policies.schema.schemas import Schema
from policies.schema.tensors import Tensor

FOLDER = "tensors"


class OpenTensor:
    """One tensor of a version's records as an open file, for a job to map. It has no telling `repr`.

    Args:
      tensor: as it is declared.
      descriptor: open for reading; closed by `close`.
      records: how many there are: private.
      begin: where its first number stands.
    """

    __slots__ = ("begin", "descriptor", "dtype", "name", "shape", "size")

    def __init__(self, tensor: Tensor, descriptor: int, records: int, begin: int) -> None:
        self.name, self.descriptor, self.begin = tensor.name, descriptor, begin
        self.dtype = stored_dtype(tensor)
        self.shape = (records, *tensor.shape)
        self.size = begin + records * tensor.record_bytes

    def close(self) -> None:
        """Close the file; again is allowed."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __repr__(self) -> str:
        return "OpenTensor(…)"


def stored_dtype(tensor: Tensor) -> str:
    """What numbers of a tensor are kept as, in numpy's words: little-endian."""
    return np.dtype(tensor.dtype).newbyteorder("<").str


def open_tensors(directory: Path, version: str, schema: Schema) -> tuple[OpenTensor, ...]:
    """Every tensor of a version, open. Raises `DatasiteError` where a file is missing or is not as it was written."""
    opened: list[OpenTensor] = []
    try:
        for number, tensor in _numbered(schema):
            opened.append(_open(_path(directory, version, number), tensor))
    except BaseException:
        for tensor_file in opened:
            tensor_file.close()
        raise
    return tuple(opened)


def _open(path: Path, tensor: Tensor) -> OpenTensor:
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
            begin, size = file.tell(), os.fstat(file.fileno()).st_size
            fits = shape[1:] == tensor.shape and not fortran and dtype == np.dtype(tensor.dtype).newbyteorder("<")
            if not fits or size < begin + shape[0] * tensor.record_bytes:
                raise ValueError
            return OpenTensor(tensor, os.dup(file.fileno()), shape[0], begin)
    except (OSError, ValueError, EOFError):
        raise DatasiteError(
            f"The file of tensor {tensor.name!r} in the datasite's directory is missing or damaged. Publish the table"
            " again, or put the file back from a backup."
        ) from None


@contextmanager
def tensors_to_write(
    directory: Path, version: str, schema: Schema, records: int
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """New files of a version's tensors as arrays to fill, [records, *shape]; durable at the end of the `with`.

    Where what happens inside raises, no file stays.
    """
    folder = directory / FOLDER / version
    folder.mkdir(mode=0o700, parents=True)
    try:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for number, tensor in _numbered(schema):
            path = _path(directory, version, number)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            kind = np.dtype(tensor.dtype).newbyteorder("<")
            arrays[tensor.name] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                path, "w+", kind, (records, *tensor.shape), version=(1, 0)
            )
        yield arrays
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]
        arrays.clear()
        sync_directory(folder)
        sync_directory(folder.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def forget_tensors(directory: Path, *, keep: set[str]) -> None:
    """Delete the tensors of every version that is not in `keep`."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return
    for version in folder.iterdir():
        if version.name not in keep:
            shutil.rmtree(version)


def _numbered(schema: Schema) -> Iterator[tuple[int, Tensor]]:
    """Tensors with the numbers of their files, by name: a schema that was kept has them in another order."""
    return enumerate(sorted(schema.tensors, key=lambda tensor: tensor.name))


def _path(directory: Path, version: str, number: int) -> Path:
    return directory / FOLDER / version / f"{number}.npy"
