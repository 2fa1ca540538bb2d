"""Tensors on the wire and on disk: their digest, their bytes, and the check that they are the ones that were planned.

numpy only, nothing to unpickle. The digest speaks of names, dtypes, shapes and values alone, so the same tensors have
the same digest in any container; the bytes are safetensors, and equal tensors give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.errors import WeightsRefused

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[tuple[int, ...], str]]

DTYPES = ("float32", "float64", "int64", "uint32", "int8")
LONGEST_NAME = 200
_SHOWN = 5


def digest(tensors: Mapping[str, Array]) -> str:
    """Hex SHA-256 of tensors: over a JSON header of names, dtypes and shapes, then each one's little-endian values.

    Names come in sorted order, and the header tells where each tensor ends, so two different mappings never share
    the bytes that are hashed. Raises `WeightsRefused` where a dtype is none of `DTYPES`.

    >>> digest({"b": np.zeros(2, np.float32), "a": np.ones((1, 2))}) == digest(
    ...     {"a": np.ones((1, 2)), "b": np.zeros(2, np.float32)}
    ... )
    True
    """
    ready = _ready(tensors)
    header = [[name, array.dtype.name, list(array.shape)] for name, array in ready.items()]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True)
    hashed = hashlib.sha256(f"tensors v1 {len(text)} {text}".encode())
    for array in ready.values():
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def to_bytes(tensors: Mapping[str, Array]) -> bytes:
    """Tensors as safetensors; equal tensors give equal bytes. Raises `WeightsRefused` as `digest` does."""
    from safetensors.numpy import save

    return bytes(save(_ready(tensors)))


def from_bytes(content: bytes) -> dict[str, Array]:
    """The tensors that `to_bytes` wrote, by sorted names, each an array of its own that may be written to.

    Raises `WeightsRefused` whatever else `content` is.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        loaded = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError):
        raise WeightsRefused(
            f"These {len(content)} bytes are not tensors as safetensors writes them. Save them again."
        ) from None
    return {name: array.copy() for name, array in _ready(loaded).items()}


def check_tensors(tensors: Mapping[str, Array], shapes: Shapes, *, finite: bool) -> None:
    """Raise `WeightsRefused` unless `tensors` has exactly the names, shapes and dtypes of `shapes`.

    Args:
      shapes: (shape, dtype) by name, dtypes written as `"float32"`.
      finite: also refuse infinities and NaN. For weights that come in; never for a release, since to refuse one for
        its values would tell something of the data.
    """
    missing, extra = sorted(set(shapes) - set(tensors)), sorted(set(tensors) - set(shapes), key=str)
    if missing or extra:
        parts = [f"{what} {_listed(names)}" for what, names in (("missing:", missing), ("not in it:", extra)) if names]
        raise WeightsRefused(
            f"The tensors are not the {len(shapes)} of the plan ({'; '.join(parts)}). Send the model's state by name.",
            missing=tuple(missing),
            extra=tuple(extra),
        )
    for name, (shape, dtype) in shapes.items():
        array = tensors[name]
        if not isinstance(array, np.ndarray) or array.shape != tuple(shape) or array.dtype.name != dtype:
            got = f"{array.dtype.name} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise WeightsRefused(f"{_named(name)} is {got}; the plan has {dtype} {list(shape)}. Reshape or cast it.")
        if finite and not np.isfinite(array).all():
            raise WeightsRefused(f"{_named(name)} has values that are not finite. Start from finite weights.")


def _ready(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors by sorted names, contiguous and little-endian."""
    for name, array in tensors.items():
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise WeightsRefused(f"A tensor's name is printable text of 1 to {LONGEST_NAME} characters.")
        if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
            kind = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
            raise WeightsRefused(f"{_named(name)} is {kind}. Send an array of {', '.join(DTYPES)}.")
    return {
        # ascontiguousarray makes a scalar one-dimensional, and a scalar's shape is part of what it is.
        name: np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<")).reshape(tensors[name].shape)
        for name in sorted(tensors)
    }


def _named(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:60]}…")


def _listed(names: Iterable[str]) -> str:
    shown = [_named(str(name)) for name in names]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
