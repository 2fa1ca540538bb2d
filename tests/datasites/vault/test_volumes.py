"""NIfTI volumes: read in their units and one orientation, resized as declared, each fault with its reason."""

from __future__ import annotations

import gzip
from typing import Any

import nibabel
import numpy as np
import pytest

from datasites.vault import volumes
from datasites.vault.tensor_faults import TensorFault
from datasites.vault.tensor_values import decoded
from policies.errors import DataRefused
from policies.schema.tensors import Tensor

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
SCAN = Tensor(name="scan", shape=(1, 2, 3, 4), minimum=0, maximum=255)


def nifti(
    voxels: np.ndarray[Any, Any] = VOXELS,
    affine: np.ndarray[Any, Any] | None = None,
    kind: Any = nibabel.Nifti1Image,
    slope: float | None = None,
) -> bytes:
    """A file with a name in its header."""
    image = kind(voxels, np.eye(4) if affine is None else affine)
    image.header["descrip"] = b"Jane Doe"
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    return bytes(image.to_bytes())


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_volume_is_read_plain_and_packed(kind: Any) -> None:
    plain = nifti(kind=kind)
    np.testing.assert_array_equal(decoded(SCAN, ".nii", plain)[0], VOXELS)
    np.testing.assert_array_equal(decoded(SCAN, ".nii.gz", gzip.compress(plain))[0], VOXELS)


def test_axes_come_in_one_orientation_whatever_the_scanner_wrote() -> None:
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])  # left to right the other way round
    np.testing.assert_array_equal(decoded(SCAN, ".nii", nifti(VOXELS[::-1], turned))[0], VOXELS)
    swapped = np.eye(4)[[1, 0, 2, 3]]
    np.testing.assert_array_equal(decoded(SCAN, ".nii", nifti(VOXELS.transpose(1, 0, 2), swapped))[0], VOXELS)


def test_one_volume_of_four_axes_is_one_volume() -> None:
    np.testing.assert_array_equal(decoded(SCAN, ".nii", nifti(VOXELS[..., np.newaxis]))[0], VOXELS)
    with pytest.raises(TensorFault, match="save one volume"):
        decoded(SCAN, ".nii", nifti(np.stack([VOXELS, VOXELS], 3)))


def test_a_volume_is_resized_as_declared() -> None:
    large = np.kron(VOXELS, np.ones((2, 2, 2), np.int16)).astype(np.int16)
    with pytest.raises(TensorFault, match="4 × 6 × 8 voxels, and the schema declares 2 × 3 × 4"):
        decoded(SCAN, ".nii", nifti(large))
    resized = Tensor(name="scan", shape=(1, 2, 3, 4), resize="area")
    np.testing.assert_array_equal(decoded(resized, ".nii", nifti(large))[0], VOXELS)
    uneven = Tensor(name="scan", shape=(1, 3, 2, 3), resize="area", dtype="float32")
    found = uneven.natural(decoded(uneven, ".nii", nifti(large)))
    np.testing.assert_allclose(found.mean(), large.mean(), atol=1e-3)  # equal shares keep the mean
    with pytest.raises(DataRefused, match="also for volumes"):
        Tensor(name="scan", shape=(1, 2, 3, 4), resize="bilinear")


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        (".nii", b"no volume", "cannot be read as NIfTI"),
        (".nii", nifti()[:390], "cannot be read as NIfTI"),
        (".nii.gz", b"no archive", "cannot be unpacked"),
        (".nii", nifti(VOXELS.astype(np.complex64)), "complex64 values"),
        (".nii", nifti(np.full((2, 3, 4), np.nan, np.float32)), "NaN"),
        (".nii", nifti(VOXELS + 300), "above maximum 255"),
        (".png", b"", "is an image"),
    ],
)
def test_what_is_no_volume_is_refused(kind: str, content: bytes, why: str) -> None:
    with pytest.raises(TensorFault, match=why):
        decoded(SCAN, kind, content)


def test_a_volume_that_says_or_unpacks_to_too_much_is_refused_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    enormous = bytearray(nifti())
    enormous[42:48] = np.array([30_000] * 3, "<i2").tobytes()  # dim[1..3]
    with pytest.raises(TensorFault, match="voxels, above"):
        decoded(SCAN, ".nii", bytes(enormous))
    monkeypatch.setattr(volumes, "MOST_UNPACKED", 1 << 16)
    with pytest.raises(TensorFault, match="unpacks to more"):
        decoded(SCAN, ".nii.gz", gzip.compress(nifti() + bytes(1 << 17)))


def test_an_image_is_no_volume() -> None:
    with pytest.raises(TensorFault, match="write \\[1, x, y, z\\]"):
        decoded(Tensor(name="xray", shape=(1, 4, 4)), ".nii", nifti())
