"""Volumes in NIfTI's files (`.nii`, `.nii.gz`): read by nibabel, turned to one orientation, resized as declared.

A volume's axes come as right, anterior, superior (RAS+), whatever a scanner wrote. Nothing of its header is kept but
what its numbers mean (slope and intercept): descriptions, names of databases and extensions are left behind.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.vault.tensor_faults import TensorFault, reading
from policies.schema.tensors import Tensor

MOST_VOXELS = 1 << 26  # before it is resized: 406 on each side
MOST_UNPACKED = 1 << 30  # bytes


def volume(tensor: Tensor, content: bytes, *, packed: bool) -> npt.NDArray[Any]:
    """[1, x, y, z] of one volume in the tensor's size, in the file's units. Raises `TensorFault`."""
    import nibabel

    if not tensor.is_volume:
        raise TensorFault(f"is a volume, and shape = {list(tensor.shape)} is no volume's: write [1, x, y, z]")
    plain = _unpacked(content) if packed else content
    with reading("NIfTI"):
        kind = nibabel.Nifti2Image if plain[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
        image = kind.from_bytes(plain)
        sizes = image.header.get_data_shape()  # type: ignore[no-untyped-call]
        if np.prod(sizes, dtype=float) > MOST_VOXELS:
            raise TensorFault(f"has {' × '.join(map(str, sizes))} voxels, above {MOST_VOXELS:,}; save it smaller")
        if len(sizes) < 3 or any(size != 1 for size in sizes[3:]):
            raise TensorFault(f"is of shape {list(sizes)}; save one volume of three axes")
        turned = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        values = np.asarray(turned.dataobj).reshape(turned.shape[:3])
    if values.dtype.kind not in "biuf":
        raise TensorFault(f"holds {values.dtype} values; save numbers, as float32")
    return _resized(tensor, values)[np.newaxis]


def _unpacked(content: bytes) -> bytes:
    try:
        unpacking = zlib.decompressobj(wbits=31)
        plain = unpacking.decompress(content, MOST_UNPACKED)
    except zlib.error:
        raise TensorFault("cannot be unpacked; save it anew") from None
    if unpacking.unconsumed_tail:
        raise TensorFault(f"unpacks to more than {MOST_UNPACKED >> 20} MiB; save it smaller")
    return plain


def _resized(tensor: Tensor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    wanted = tensor.shape[1:]
    if values.shape == wanted:
        return values
    if tensor.resize == "refuse":
        raise TensorFault(
            f"has {' × '.join(map(str, values.shape))} voxels, and the schema declares {' × '.join(map(str, wanted))};"
            " write resize = 'area' to have it resized"
        )
    for axis, size in enumerate(wanted):
        values = np.moveaxis(np.tensordot(_means(values.shape[axis], size), values, (1, axis)), 0, axis)
    return values


def _means(sizes: int, wanted: int) -> npt.NDArray[np.float64]:
    """[wanted, sizes] weights: each of the new is the mean of the old ones that it covers, by how much it does."""
    edges = np.linspace(0, sizes, wanted + 1)
    old = np.arange(sizes)
    covered = np.minimum(edges[1:, np.newaxis], old + 1) - np.maximum(edges[:-1, np.newaxis], old)
    weights = np.clip(covered, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True))
