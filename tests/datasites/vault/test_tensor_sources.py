"""Tensors as owners have them: what is read, what is refused with row and reason, and that nothing leads elsewhere."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from datasites.vault.tensor_decoding import Decoder
from datasites.vault.tensor_faults import TensorFault
from datasites.vault.tensor_files import forget_tensors, open_tensors, tensors_to_write
from datasites.vault.tensor_sources import TensorSources
from datasites.vault.tensor_values import decoded, kept
from policies.errors import DataRefused, DatasiteError
from policies.schema.schemas import Schema
from policies.schema.tensors import Tensor

pytestmark = pytest.mark.process  # pictures are decoded in one of their own

TEXT = """\
name = "xrays"
population = "patients"
patient = "patient"

[columns.sick]
kind = "boolean"

[tensors.xray]
shape = [1, 4, 4]
"""
SCHEMA = Schema.from_toml(TEXT)
XRAY = SCHEMA.tensors[0]
PIXELS = np.arange(16, dtype=np.uint8).reshape(4, 4)


def png(pixels: np.ndarray[Any, Any] = PIXELS) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def dicom(pixels: np.ndarray[Any, Any] = PIXELS, **changes: Any) -> bytes:
    """A DICOM file with a name in its header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    record = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    record.PatientName, record.PatientID = "Doe^Jane", "SECRET-42"
    record.Rows, record.Columns = pixels.shape
    record.SamplesPerPixel, record.PhotometricInterpretation, record.PixelRepresentation = 1, "MONOCHROME2", 0
    record.BitsAllocated = record.BitsStored = 8
    record.HighBit = 7
    record.PixelData = pixels.tobytes()
    for name, value in changes.items():
        setattr(record, name, value)
    file = io.BytesIO()
    record.save_as(file, enforce_file_format=True)
    return file.getvalue()


def table(names: list[Any], column: str = "xray") -> pd.DataFrame:
    return pd.DataFrame({column: pd.array(names, dtype=pd.ArrowDtype(pa.string()))}, index=range(2, 2 + len(names)))


def written(frame: pd.DataFrame, place: Path | None, scratch: Path, schema: Schema = SCHEMA) -> Any:
    files = {tensor.name: np.zeros((len(frame), *tensor.shape), tensor.dtype) for tensor in schema.tensors}
    with TensorSources(frame, schema, place, scratch=scratch) as sources:
        sources.write(np.arange(len(frame))[::-1], files)
    return files["xray"]


def refused(frame: pd.DataFrame, place: Path | None, scratch: Path) -> str:
    with pytest.raises(DataRefused) as refusal:
        written(frame, place, scratch)
    return str(refusal.value)


def test_files_are_read_where_the_rows_lie(tmp_path: Path) -> None:
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "a.png").write_bytes(png())
    (tmp_path / "b.dcm").write_bytes(dicom(PIXELS + 1))
    np.save(tmp_path / "c.npy", PIXELS + 2)
    found = written(table(["ward/a.png", "b.dcm", "c.npy"]), tmp_path, tmp_path)
    np.testing.assert_array_equal(found[::-1, 0], [PIXELS, PIXELS + 1, PIXELS + 2])


def test_lists_and_arrays_are_read_alike(tmp_path: Path) -> None:
    values = np.stack([PIXELS, PIXELS + 1]).astype(np.float32)
    lists = pa.array([value.reshape(-1).tolist() for value in values])
    frame = pd.DataFrame({"xray": pd.Series(pd.arrays.ArrowExtensionArray(lists))})
    np.save(tmp_path / "all.npy", values)
    np.savez(tmp_path / "all.npz", xray=values)
    others = pd.DataFrame({"patient": ["a", "b"]})
    for found in (
        written(frame, None, tmp_path),
        written(others, tmp_path / "all.npy", tmp_path),
        written(others, tmp_path / "all.npz", tmp_path),
    ):
        np.testing.assert_array_equal(found[::-1, 0], values)


def test_every_fault_has_row_file_and_reason_and_nothing_is_half_done(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "large.png").write_bytes(png(np.zeros((5, 4), np.uint8)))
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "inf.npy", np.full((4, 4), np.inf))
    np.save(tmp_path / "high.npy", np.full((4, 4), 256))
    np.save(tmp_path / "shape.npy", np.zeros((3, 4)))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}] * 16, dtype=object), allow_pickle=True)
    names = ["good.png", "text.png", "large.png", "nan.npy", "inf.npy", "high.npy", "shape.npy", "objects.npy", None]
    said = refused(table(names), tmp_path, tmp_path)
    assert "8 fault(s)" in said
    for row, name in enumerate(names[1:-1], start=3):
        assert f"row {row}, column 'xray': '{name}' " in said
    for reason in ("cannot be read as PNG", "4 × 5 pixels", "NaN or infinity", "256, above maximum 255", "[3, 4]"):
        assert reason in said
    assert list(tmp_path.glob(".tensors*")) == []


@pytest.mark.parametrize("name", ["/etc/hostname.png", "../out.png", "a/../../out.png", "link.png", "folder/out.png", "pipe.png", "a\\b.png", "x\0.png", "a.exe", "a/" * 9 + "b.png"])  # fmt: skip # noqa: E501
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "images", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    for path in (tmp_path / "out.png", outside / "out.png"):
        path.write_bytes(png())
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    assert "1 fault(s)" in refused(table([name]), folder, tmp_path)


@pytest.mark.parametrize(("side", "why"), [(9_000, "pixels, above"), (60_000, "cannot be read")])
def test_a_picture_that_says_it_is_enormous_is_refused_before_it_is_unpacked(side: int, why: str) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack("!IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    with pytest.raises(TensorFault, match=why):
        decoded(XRAY, ".png", bomb)


def test_an_archive_unpacks_to_no_more_than_was_declared(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", xray=np.zeros((1, 1 << 20)))
    assert "unpacks to more" in refused(pd.DataFrame({"patient": ["a"]}), tmp_path / "bomb.npz", tmp_path)
    assert list(tmp_path.glob(".tensors*")) == []


def test_a_decoder_that_ends_or_takes_too_long_is_a_fault_and_is_started_again() -> None:
    with Decoder([XRAY]) as decoder:
        np.testing.assert_array_equal(decoder.decode(XRAY, ".png", png())[0], PIXELS)
        assert decoder._process is not None
        decoder._process.kill()
        decoder._process.wait()
        with pytest.raises(TensorFault, match="fail"):
            decoder.decode(XRAY, ".png", png())
        np.testing.assert_array_equal(decoder.decode(XRAY, ".png", png())[0], PIXELS)
    with Decoder([XRAY], seconds=0.0) as hurried, pytest.raises(TensorFault, match="longer"):
        hurried.decode(XRAY, ".png", png())


def test_values_are_clamped_where_that_is_declared_and_nan_never_is() -> None:
    clamped = Tensor(name="xray", shape=(1, 4, 4), outside="clamp")
    assert kept(clamped, np.full((4, 4), 1e9)).max() == 255
    with pytest.raises(TensorFault, match="NaN"):
        kept(clamped, np.full((4, 4), np.nan))


def test_nothing_of_a_dicom_header_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom())
    with (
        tensors_to_write(tmp_path, "v1", SCHEMA, 1) as files,
        TensorSources(table(["a.dcm"]), SCHEMA, tmp_path, scratch=tmp_path) as sources,
    ):
        sources.write(np.arange(1), files)
    content = (tmp_path / "tensors" / "v1" / "0.npy").read_bytes()
    assert content.endswith(PIXELS.tobytes())
    for secret in (b"Doe", b"SECRET", b"a.dcm"):
        assert secret not in content


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"BurnedInAnnotation": "YES"}, "burned"), ({"NumberOfFrames": 3}, "frames"), ({"PixelData": b""}, "DICOM")],
)
def test_dicom_that_could_show_a_name_or_is_no_picture_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TensorFault, match=why):
        decoded(XRAY, ".dcm", dicom(**changes))


def test_dicom_is_read_in_its_units() -> None:
    scaled = Tensor(name="xray", shape=(1, 4, 4), minimum=-160, maximum=240, outside="clamp", dtype="float32")
    found = scaled.natural(decoded(scaled, ".dcm", dicom(RescaleSlope=10, RescaleIntercept=-100)))
    np.testing.assert_allclose(found[0], PIXELS * 10.0 - 100, atol=1e-3)
    inverted = decoded(XRAY, ".dcm", dicom(PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted[0], 255 - PIXELS)


@pytest.mark.parametrize("how", ["area", "bilinear"])
def test_an_image_is_resized_as_declared(how: str) -> None:
    tensor = Tensor(name="xray", shape=(1, 4, 4), resize=how)
    blocks = np.kron(PIXELS, np.ones((2, 2), np.uint8)).astype(np.uint8)
    found = decoded(tensor, ".png", png(blocks))
    assert found.shape == (1, 4, 4)
    if how == "area":
        np.testing.assert_array_equal(found[0], PIXELS)


def test_files_of_versions_that_are_not_published_go_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    for version in ("one", "two"):
        with tensors_to_write(tmp_path, version, SCHEMA, 3) as files:
            files["xray"][:] = 7
    (opened,) = open_tensors(tmp_path, "one", SCHEMA)
    assert (opened.shape, opened.dtype, repr(opened)) == ((3, 1, 4, 4), "|u1", "OpenTensor(…)")
    opened.close()
    forget_tensors(tmp_path, keep={"one"})
    assert [path.name for path in (tmp_path / "tensors").iterdir()] == ["one"]
    os.truncate(tmp_path / "tensors" / "one" / "0.npy", 130)
    with pytest.raises(DatasiteError, match="damaged"):
        open_tensors(tmp_path, "one", SCHEMA)
    with pytest.raises(ZeroDivisionError), tensors_to_write(tmp_path, "three", SCHEMA, 3):
        raise ZeroDivisionError
    assert not (tmp_path / "tensors" / "three").exists()
