"""Deserialize a hospital's answers into plain values; no class that they name is ever instantiated.

PySyft's own reader makes whatever object an answer names, before anybody looked at it; a `_GenericAlias` in the answer
to a sign-in ran a command on the researcher's machine. Here an answer becomes numbers, texts, bytes, arrays, lists and
mappings. Of PySyft's classes the few in `RECORDS` are read as their listed fields; any other ends the reading. Depth,
number of objects and size are bounded, whatever the bytes say of themselves.

Texts come with every hidden character by name (`policies.text`), since all of them may reach a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from policies.errors import DatasiteError, PermissionRefused
from policies.schema.schemas import Schema
from policies.text import visible
from policies.wire.capnp import Named, TooMany, read_named, read_pairs, read_values

# Classes of PySyft's that answers are made of, and what is read of each. No other field is looked at.
RECORDS: Mapping[str, tuple[str, ...]] = {
    "SyftAPIData": ("data",),
    "SyftSuccess": ("value",),
    "SyftError": ("message",),
    "UserPrivateKey": ("signing_key",),
    "SyftSigningKey": ("signing_key",),
    "ActionObject": ("syft_action_data_cache", "syft_blob_storage_entry_id"),
    "AnyActionObject": ("syft_action_data_cache", "syft_blob_storage_entry_id"),
    "NumpyArrayObject": ("syft_action_data_cache", "syft_blob_storage_entry_id"),
    "ActionDataEmpty": (),
    "OnDiskBlobDeposit": (),
    "SyftObjectRetrieval": ("syft_object",),
    "Request": ("changes",),
    "UserCodeStatusChange": ("linked_user_code",),
    "LinkedObject": ("object_uid",),
}
DEEPEST, MOST_OBJECTS = 60, 200_000
TOO_LARGE = "This answer is too large or too deep."
LONGEST_NUMBER = 64  # bytes of one number: an integer or a float's text
DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())
CODEC = "zstd"  # PySyft's, with which arrays travel


class Unreadable(Exception):
    """Bytes that are no answer of the listed kinds. The text says what is wrong and repeats nothing of them."""


@dataclass(frozen=True)
class Record:
    """An object of PySyft's as its listed fields, each already read."""

    name: str
    fields: Mapping[str, Any]

    def __getitem__(self, field: str) -> Any:
        try:
            return self.fields[field]
        except KeyError:
            raise Unreadable(f"{self.name} comes without {field}.") from None


def read(blob: bytes, *, largest: int) -> Any:
    """The value in an answer's bytes: plain values, numpy arrays, identifiers as hex texts, and `Record`.

    Args:
      largest: bytes that all arrays of the answer may take together; they travel compressed.

    Raises:
      Unreadable: another class, another form, too deep, too many or too large.
    """
    try:
        return _Reader(len(blob), largest).value(blob)
    except Unreadable:
        raise
    except TooMany:
        raise Unreadable(TOO_LARGE) from None
    except (Exception, RecursionError):  # whatever wrong bytes make a reader of numbers and arrays raise
        raise Unreadable("These bytes are no answer of a datasite.") from None


class _Reader:
    """Reads one answer; counts down what it may still hold."""

    def __init__(self, size: int, largest: int) -> None:
        self.objects, self.depth, self.arrays = MOST_OBJECTS, 0, largest
        self.bytes = 32 * size + (1 << 20)  # each level of nesting copies what is inside it
        self.leaves: Mapping[str, Callable[[bytes], Any]] = {
            "NoneType": lambda _: None,
            "bool": lambda content: content != b"0",
            "int": _integer,
            "float": _float,
            "str": _text,
            "bytes": lambda content: content,
            "nacl_signing_key": lambda content: content,
            "list": self._items,
            "tuple": lambda content: tuple(self._items(content)),
            "dict": self._mapping,
            "numpy_ndarray": self._array,
            "torch_tensor": self._array,
        }

    def value(self, blob: bytes) -> Any:
        self.objects -= 1
        self.bytes -= len(blob)
        if self.objects < 0 or self.bytes < 0 or self.depth >= DEEPEST:
            raise Unreadable(TOO_LARGE)
        message = read_named(blob)
        self.depth += 1
        try:
            return self._named(message)
        finally:
            self.depth -= 1

    def _named(self, message: Named) -> Any:
        name = message.canonicalName
        if name in self.leaves:
            return self.leaves[name](b"".join(message.nonrecursiveBlob))
        if name == "UID":
            return str(UUID(bytes=self._field(message, "value")).hex)
        if name not in RECORDS:
            raise Unreadable(f"An answer may not carry {visible(name[:60])!r}.")
        present = [field for field in RECORDS[name] if field in message.fieldsName]
        return Record(name, {field: self._field(message, field) for field in present})

    def _field(self, message: Named, field: str) -> Any:
        return self.value(b"".join(message.fieldsData[message.fieldsName.index(field)]))

    def _items(self, content: bytes) -> list[Any]:
        return [self.value(b"".join(pieces)) for pieces in read_values(content, self.objects).values]

    def _mapping(self, content: bytes) -> dict[Any, Any]:
        pairs = read_pairs(content, self.objects)
        keys = [self.value(key) for key in pairs.keys]
        if any(type(key) not in (str, int, float, bool) for key in keys) or len(set(keys)) != len(keys):
            raise Unreadable("The keys of a mapping are no different plain values.")
        return dict(zip(keys, (self.value(b"".join(pieces)) for pieces in pairs.values), strict=True))

    def _array(self, content: bytes) -> np.ndarray[Any, Any]:
        """An array of numbers whose size was paid for: the bytes name any size, any strides and any type."""
        import pyarrow as pa

        packed, size, dtype = self.value(content)
        if dtype not in DTYPES or type(size) is not int or not 0 <= size <= self.arrays or type(packed) is not bytes:
            raise Unreadable("An array of this answer is too large, or not of numbers.")
        self.arrays -= size
        tensor = pa.ipc.read_tensor(pa.py_buffer(pa.decompress(packed, decompressed_size=size, codec=CODEC)))
        if not tensor.is_contiguous or tensor.size * np.dtype(dtype).itemsize > size:
            raise Unreadable("An array of this answer is larger than its bytes.")
        array = tensor.to_numpy()
        if array.dtype != np.dtype(dtype):
            raise Unreadable("An array of this answer is of another type than it says.")
        return np.array(array)


def _integer(content: bytes) -> int:
    if len(content) > LONGEST_NUMBER:
        raise Unreadable("A number of this answer is too long.")
    return int.from_bytes(content, "big", signed=True)


def _float(content: bytes) -> float:
    if len(content) > LONGEST_NUMBER:
        raise Unreadable("A number of this answer is too long.")
    return float.fromhex(content.decode("ascii"))


def _text(content: bytes) -> str:
    return visible(content.decode("utf-8"), keep="\n")


# -- the shapes of what a datasite says -------------------------------------------------------------------------------

LONGEST_NAME = 200
_KEY, _ID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Maybe:
    """A shape, or nothing."""

    shape: Any


Shape = Any  # a type or a tuple of types; a list of one shape; a mapping of names to shapes, others may be there too
NUMBER = (int, float)
_DATASET = {
    "name": str, "version": str, "population": str, "schema": dict, "patients": int, "size_kind": str, "asset": str,
    "mock_certificate": (str, None),
}  # fmt: skip
_BUDGET = {"epsilon": NUMBER, "delta": NUMBER, "epsilon_spent": NUMBER, "epsilon_remaining": NUMBER}
DESCRIPTION: Shape = {"name": str, "public_key": str, "datasets": [_DATASET], "budgets": dict}
_FINDING = {"line": (int, None), "why": (str, None), "instead": (str, None)}
_COST = {
    "epsilon": NUMBER, "delta": NUMBER, "rounds": int, "noise_multiplier": (*NUMBER, None), "spent_before": NUMBER,
    "spent_after": NUMBER, "budget": NUMBER, "fits": bool, "short": NUMBER,
}  # fmt: skip
_ENGINE: Shape = {"lanes": bool, "why": str}
QUOTE: Shape = {
    "accepted": bool, "findings": [_FINDING], "plan_digest": (str, None), "cost": Maybe(_COST),
    "engine": Maybe(_ENGINE),
}  # fmt: skip
REQUESTS: Shape = [{"id": str, "function": str, "status": str}]
KEPT_WEIGHTS: Shape = {"kept": bool, "have": int}
STATUS: Shape = {"status": str, "comment": (str, None), "rounds": [{"status": str}], "plan_digest": (str, None)}
ANSWER: Shape = {
    "status": str, "release": (dict, None), "certificate": (str, None), "shows_in": (*NUMBER, None)
}  # fmt: skip
CERTIFICATES: Shape = [str]
COMMENTS: Shape = [{"at": str, "from": str, "text": str}]


def shaped(value: Any, shape: Shape, what: str) -> Any:
    """`value` where it has the shape. Raises `PermissionRefused`, naming what is wrong in `what`, where it has not."""
    if isinstance(shape, Maybe):
        return value if value is None else shaped(value, shape.shape, what)
    if isinstance(shape, dict):
        _check(type(value) is dict, what)
        for name, inner in shape.items():
            _check(name in value or isinstance(inner, Maybe) or None in _kinds(inner), f"{what}: {name}")
            shaped(value.get(name), inner, f"{what}: {name}")
    elif isinstance(shape, list):
        _check(type(value) is list, what)
        for item in value:
            shaped(item, shape[0], what)
    else:
        _check(any(value is None if kind is None else type(value) is kind for kind in _kinds(shape)), what)
    return value


def check_description(described: Mapping[str, Any], name: str) -> None:
    """Raise `PermissionRefused` where a description of that shape names no keys, assets, schemas or budgets."""
    _check(_KEY.fullmatch(described["public_key"]) is not None, f"{name}: public key")
    for dataset in described["datasets"]:
        what = f"{name}: dataset {dataset['name'][:LONGEST_NAME]!r}"
        _check(_ID.fullmatch(dataset["asset"].replace("-", "")) is not None, f"{what}: asset")
        _check(0 <= dataset["patients"] < 1 << 53, f"{what}: patients")
        _check(dataset["size_kind"] in ("declared", "dp-count"), f"{what}: size_kind")
        try:
            Schema.from_dict(dataset["schema"])
        except DatasiteError as error:
            raise PermissionRefused(f"{what}: its schema is refused. {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
            _check(False, f"{what}: schema")
        shaped(described["budgets"].get(dataset["population"]), _BUDGET, f"{what}: budget")


def _kinds(shape: Shape) -> tuple[Any, ...]:
    return shape if isinstance(shape, tuple) else (shape,)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise PermissionRefused(f"{what} is missing or of another kind than a datasite sends. Tell its owner.")
