"""Tensors as PySyft's clients send and read them, without torch: arrays of numpy in a class that stands for theirs.

On the wire a tensor is `torch_tensor` with numpy's bytes, and a client builds one of torch's from that. Where this
process has imported torch before PySyft, as a test with a client in it does, PySyft's own class is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from syft.serde.arrow import numpy_deserialize, numpy_serialize
from syft.serde.recursive import recursive_serde_register
from syft.types.syft_object_registry import SyftObjectRegistry

NAME = "torch_tensor"


class Tensor:
    """An array that a client reads as a tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> Any:
        return self._array.dtype

    def __repr__(self) -> str:
        """As torch prints one; PySyft sends it to clients beside the numbers."""
        return np.array2string(self._array, prefix="tensor(", separator=", ").join(("tensor(", ")"))

    def numpy(self) -> np.ndarray:
        """The array itself."""
        return self._array

    def __array__(self, dtype: Any = None) -> np.ndarray:
        return self._array if dtype is None else self._array.astype(dtype)


def _registered() -> Any:
    """The class that PySyft reads tensors as: torch's where it found torch, else ours from now on."""
    if not SyftObjectRegistry.has_serde_class(NAME, 1):
        recursive_serde_register(
            Tensor,
            serialize=lambda tensor: numpy_serialize(tensor.numpy()),
            deserialize=lambda blob: Tensor(numpy_deserialize(blob)),
            canonical_name=NAME,
            version=1,
        )
    return SyftObjectRegistry.get_serde_class(NAME, 1)


TENSOR: Any = _registered()


def tensor_of(array: np.ndarray) -> Any:
    """What a client reads as a tensor with the values of an array, which it has for itself."""
    if TENSOR is Tensor:
        return Tensor(array)
    import torch

    return torch.from_numpy(array.copy())


def array_of(value: Any) -> np.ndarray | None:
    """The array of a tensor or of an array of numbers; None where a value is neither."""
    if isinstance(value, TENSOR):
        return np.asarray(value.numpy() if TENSOR is Tensor else value.detach().cpu().numpy())
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" else None
