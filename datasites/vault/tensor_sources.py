"""Where the tensors of a table's records come from: one array for all, lists in a column, or a file for each record.

* An array of numpy (`.npy`, or one of several in `.npz`, by the tensor's name) has an entry for each row of the table.
* A column of lists, as Parquet holds it, has each row's own values.
* A column of codes has them as lists or texts (`datasites.vault.code_sequences`).
* Another column of texts names a file for each row, inside one folder: PNG, JPEG, DICOM, NIfTI, a WFDB header beside
  the file of its samples, or `.npy`. A name that leads out of the folder, and a link, is refused.

Every row is checked and every fault has row, column, file and reason; with one fault nothing is published.
"""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datasites.vault.cells import arrow_array
from datasites.vault.code_sequences import CodeReader
from datasites.vault.signals import SAMPLES, file_of_samples
from datasites.vault.tables import MOST_FAULTS
from datasites.vault.tensor_decoding import LARGEST_FILE, Decoder
from datasites.vault.tensor_faults import TensorFault
from datasites.vault.tensor_values import KINDS, SIGNALS, VOLUMES, kept
from policies.errors import DataRefused
from policies.schema.as_written import normal_header
from policies.schema.columns import IntArray
from policies.schema.schemas import Schema
from policies.schema.tensors import Stored, Tensor
from policies.text import visible

if TYPE_CHECKING:
    import pandas as pd

DEEPEST = 8  # folders in a file's name
LONGEST_NAME = 1000
LARGEST_HEADER = 1 << 16  # bytes before an array's numbers

Read = Callable[[int], Stored]
"""What is kept of one row of the table. Raises `TensorFault`."""


def tensor_headers(frame: pd.DataFrame, schema: Schema) -> dict[str, str]:
    """The table's own header of each tensor that has a column in it, by the tensor's name."""
    names = [str(name) for name in frame.columns]
    alike = {normal_header(name): name for name in reversed(names)}
    headers = {}
    for tensor in schema.tensors:
        wanted = tensor.header or tensor.name
        there = wanted if wanted in names else alike.get(normal_header(wanted))
        if there is not None:
            headers[tensor.name] = there
    return headers


class TensorSources:
    """Every tensor of a table's rows, open. Use it in a `with`.

    Args:
      frame: the table as it was read; its index counts rows as the owner's tools do.
      place: the folder of files, or an array's file; None where a column of lists is all.
      scratch: a folder for what is unpacked, on a disk of the datasite's.

    Raises:
      DataRefused: a tensor is nowhere, or an array is not of the declared shape.
    """

    def __init__(self, frame: pd.DataFrame, schema: Schema, place: Path | None, *, scratch: Path) -> None:
        self._index, self._schema = frame.index, schema
        self._rows, self._scratch = len(frame), scratch
        self._stack = ExitStack()
        self._reads: dict[str, tuple[str, Read]] = {}
        headers = tensor_headers(frame, schema)
        try:
            self._decoder = self._stack.enter_context(Decoder(schema.tensors))
            for tensor in schema.tensors:
                column = None if tensor.name not in headers else arrow_array(frame[headers[tensor.name]])
                self._reads[tensor.name] = headers.get(tensor.name, tensor.name), self._source(tensor, column, place)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> TensorSources:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __repr__(self) -> str:
        return "TensorSources(…)"

    def check(self) -> None:
        """Read every tensor of every row. Raises `DataRefused` with the first twenty faults, as `write`."""
        for _ in self._each():
            pass

    def write(self, order: IntArray, files: dict[str, npt.NDArray[Any]]) -> None:
        """Put every row's tensors where the row lies in the private matrix; rows that were left out there, nowhere.

        Args:
          order: row of the table of each place in the matrix.
          files: arrays to fill, [places, *shape], by the tensor's name.

        Raises:
          DataRefused: `faults` has the first twenty, each with row, column, file and reason; `total` counts all.
        """
        places = np.full(self._rows, -1, np.int64)
        places[order] = np.arange(len(order))
        for tensor, row, stored in self._each():
            if places[row] >= 0:
                files[tensor.name][places[row]] = stored

    def _each(self) -> Iterator[tuple[Tensor, int, Stored]]:
        faults, total = list[str](), 0
        for tensor in self._schema.tensors:
            header, read = self._reads[tensor.name]
            for row in range(self._rows):
                try:
                    yield tensor, row, read(row)
                except TensorFault as fault:
                    total += 1
                    if len(faults) < MOST_FAULTS:
                        faults.append(f"row {self._index[row]}, column {visible(header)!r}: {fault}")
        if total:
            listed = "\n".join(faults)
            raise DataRefused(
                f"The tensors do not fit {self._schema.name!r}: {total} fault(s), the first {len(faults)} of which"
                " follow. Mend them in the files, or declare shape, bounds, outside, resize or shorter otherwise."
                f"\n{listed}",
                faults=tuple(faults),
                total=total,
            )

    # -- the three kinds ---------------------------------------------------------------------------------------------

    def _source(self, tensor: Tensor, column: Any, place: Path | None) -> Read:
        if tensor.is_codes:
            return self._from_codes(tensor, column)
        if place is not None and place.suffix.lower() in (".npy", ".npz"):
            return self._from_array(tensor, place)
        if column is None:
            wanted = tensor.header or tensor.name
            raise DataRefused(
                f"Tensor {tensor.name!r} is declared, and the table has no column {wanted!r} that names each record's"
                " file or holds its values. Say which it is as header = '...', or give an array with --tensors"
                " images.npz."
            )
        from pyarrow import types

        if _is_list(column.type):
            return lambda row: kept(tensor, _numbers(tensor, column[row]))
        if not (types.is_string(column.type) or types.is_large_string(column.type)):
            raise DataRefused(
                f"Tensor {tensor.name!r}: its column holds {column.type} values. Publish lists, or names of files."
            )
        if place is None or not place.is_dir():
            shown = "none was given" if place is None else f"{place} is none"
            raise DataRefused(
                f"Tensor {tensor.name!r} is read from files that the table names, in one folder, and {shown}. Name it"
                " with --tensors FOLDER."
            )
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(os.close, folder)

        def read(row: int) -> Stored:
            name = column[row].as_py()
            try:
                kind, content = file_in(folder, name)
                if kind in SIGNALS:  # a header that names one more file, beside it
                    beside = str(PurePosixPath(str(name)).parent / file_of_samples(content))
                    content += b"\0" + file_in(folder, beside, SAMPLES)[1]
                return self._decoder.decode(tensor, kind, content)
            except TensorFault as fault:
                raise TensorFault(f"{visible(str(name))[:100]!r} {fault}") from None

        return read

    def _from_codes(self, tensor: Tensor, column: Any) -> Read:
        if column is None:
            raise DataRefused(
                f"Tensor {tensor.name!r} is declared, and the table has no column {tensor.header or tensor.name!r} of"
                " its codes. Say which it is as header = '...'."
            )
        reader = CodeReader(tensor)
        return lambda row: tensor.stored(reader.numbers(column[row].as_py()))

    def _from_array(self, tensor: Tensor, path: Path) -> Read:
        array = self._mapped(tensor, path)
        if array.dtype.kind not in "biuf":
            raise DataRefused(f"{path.name} holds {array.dtype} values for {tensor.name!r}. Save numbers, as float32.")
        if array.shape[:1] != (self._rows,):
            # The owner alone is told; the table is theirs.
            raise DataRefused(
                f"{path.name} is of shape {list(array.shape)} for {tensor.name!r}, and the table has {self._rows} rows."
                " Save one entry for each row, in the table's order."
            )
        return lambda row: kept(tensor, np.asarray(array[row]))

    def _mapped(self, tensor: Tensor, path: Path) -> npt.NDArray[Any]:
        if not path.is_file():
            raise DataRefused(f"{path} is not a file. Name an array of numpy, as images.npz.")
        if path.suffix.lower() == ".npy":
            if len(self._schema.tensors) > 1:
                raise DataRefused(
                    f"{path.name} is one array and the schema declares {len(self._schema.tensors)} tensors. Save all"
                    " of them by name with numpy.savez."
                )
            return _loaded(path, path.name)
        member = f"{tensor.name}.npy"
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=".tensors.", suffix=".new") as unpacked:
            try:
                with zipfile.ZipFile(path) as archive, archive.open(member) as content:
                    self._unpack(tensor, content, unpacked, path)
            except KeyError:
                raise DataRefused(
                    f"{path.name} has no array {tensor.name!r}. Save it as numpy.savez(..., {tensor.name}=array)."
                ) from None
            except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError, EOFError):
                raise DataRefused(f"{path.name} cannot be read as .npz. Save it anew with numpy.savez.") from None
            unpacked.flush()
            return _loaded(Path(unpacked.name), path.name)  # mapped: it stays readable when its name is gone

    def _unpack(self, tensor: Tensor, content: Any, unpacked: Any, path: Path) -> None:
        """Copy an array out of an archive, never more than the widest of the declared shape takes."""
        left = self._rows * tensor.elements * 8 + LARGEST_HEADER
        while part := content.read(1 << 20):
            left -= len(part)
            if left < 0:
                raise DataRefused(
                    f"{path.name} unpacks to more than {self._rows} entries of {list(tensor.shape)} for"
                    f" {tensor.name!r}. Save one entry for each row."
                )
            unpacked.write(part)


def file_in(folder: int, name: object, kinds: tuple[str, ...] = KINDS) -> tuple[str, bytes]:
    """Ending and content of a file by its name in an open folder. Raises `TensorFault`: nothing outside is opened.

    Every part of the name is opened from the folder before it, and no link is followed, so that it cannot lead out.
    """
    if not isinstance(name, str) or not name.strip():
        raise TensorFault("names no file; name one, or leave the record out")
    path = PurePosixPath(name)
    check_inside(path)
    if not 1 <= len(path.parts) <= DEEPEST:
        raise TensorFault(f"lies deeper than {DEEPEST} folders")
    kind = next((ending for ending in VOLUMES if path.name.lower().endswith(ending)), path.suffix.lower())
    if kind not in kinds:
        raise TensorFault(f"has the ending {kind!r}; files are {', '.join(kinds)}")
    opened = [os.dup(folder)]
    try:
        for part in path.parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            opened.append(os.open(part, flags, dir_fd=opened[-1]))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        opened.append(os.open(path.name, flags, dir_fd=opened[-1]))
        facts = os.fstat(opened[-1])
        if not stat.S_ISREG(facts.st_mode):
            raise TensorFault("is not a plain file")
        if facts.st_size > LARGEST_FILE:
            raise TensorFault(f"has more than {LARGEST_FILE >> 20} MiB; save it smaller")
        with os.fdopen(opened.pop(), "rb") as file:
            return kind, file.read(LARGEST_FILE)
    except OSError as error:
        raise TensorFault(f"cannot be opened in the folder, links are not followed ({error.strerror})") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def check_inside(path: PurePosixPath) -> None:
    """Raise `TensorFault` for a name that could lead out of its folder, or that is none anywhere."""
    name = str(path)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or len(name) > LONGEST_NAME:
        raise TensorFault("leads out of the folder; name a file inside of it, as 'ward1/0001.png'")


def _loaded(path: Path, called: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError):
        raise DataRefused(f"{called} is no array of numbers that numpy wrote. Save it with numpy.save.") from None


def _numbers(tensor: Tensor, cell: Any) -> npt.NDArray[Any]:
    """One cell's numbers: of a signal whose channels are lists of one length, [channels, samples]; else flat."""
    flat = _flat(cell)
    if not tensor.is_signal or not _is_list(cell.values.type) or len(cell.values) != tensor.shape[0]:
        return flat
    samples = len(cell.values[0])
    alike = all(len(channel) == samples for channel in cell.values) and flat.size == len(cell.values) * samples
    return flat.reshape(len(cell.values), samples) if alike else flat


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _flat(cell: Any) -> npt.NDArray[Any]:
    """The numbers of one cell's list, or list of lists, one after the other."""
    from pyarrow import types

    values = cell.values
    if values is None:
        raise TensorFault("is empty; fill it in, or leave the record out")
    while _is_list(values.type):
        if values.null_count:
            raise TensorFault("has an empty list inside; fill it in, or leave the record out")
        values = values.flatten()
    if values.null_count:
        raise TensorFault("has an empty value; fill it in, or leave the record out")
    if not (types.is_integer(values.type) or types.is_floating(values.type)):
        raise TensorFault(f"holds {values.type} values; save numbers, as float32")
    return np.asarray(values.to_numpy(zero_copy_only=False))
