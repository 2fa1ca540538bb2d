"""One record's tensor as its source has it: decode the file, resize, hold it to the declaration, make it as it is kept.

Faults are for the owner and name the value and the bound. What is kept are numbers: nothing of a file's name, header,
comments or embedded profile goes on.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.vault.signals import signal, windowed
from datasites.vault.tensor_faults import TensorFault, reading
from datasites.vault.volumes import volume
from policies.schema.tensors import Stored, Tensor

IMAGES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
DICOM = (".dcm", ".dicom")
ARRAYS = (".npy",)
SIGNALS = (".hea",)  # of WFDB: a header, which names the file of its samples
VOLUMES = (".nii", ".nii.gz")
KINDS = (*IMAGES, *DICOM, *ARRAYS, *SIGNALS, *VOLUMES)
MOST_PIXELS = 1 << 26  # of an image before it is resized: 8192 by 8192

Values = npt.NDArray[Any]


def decoded(tensor: Tensor, kind: str, content: bytes) -> Stored:
    """What is kept of a file's content. Raises `TensorFault`.

    Args:
      kind: the file's ending, one of `KINDS`.
      content: the file's; of a WFDB header, the content of the file of its samples after a zero byte.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that nobody here reads
        if kind in ARRAYS:
            return kept(tensor, _array(content))
        if kind in SIGNALS:
            return kept(tensor, signal(tensor, *content.split(b"\0", 1)))
        if kind in VOLUMES:
            return kept(tensor, volume(tensor, content, packed=kind.endswith(".gz")))
        if tensor.colours is None:
            raise TensorFault(
                f"is an image, and shape = {list(tensor.shape)} is no image's: write [1, height, width] or"
                " [3, height, width]"
            )
        image = _dicom(tensor, content) if kind in DICOM else _picture(tensor, IMAGES[kind], content)
        return kept(tensor, _resized(tensor, image))


def kept(tensor: Tensor, values: Values) -> Stored:
    """Values as they are kept, little-endian, of the tensor's shape. Raises `TensorFault` naming value and bound."""
    if values.dtype.kind not in "biuf":
        raise TensorFault(f"holds {values.dtype} values; save numbers, as float32")
    if tensor.is_signal and tensor.shape[0] == 1 and values.ndim == 1:
        values = values[np.newaxis]
    if tensor.is_signal and values.ndim == 2 and values.shape[0] == tensor.shape[0]:
        values = windowed(tensor, values)
    if values.shape != tensor.shape:
        if (1, *values.shape) != tensor.shape and values.shape != (tensor.elements,):
            raise TensorFault(f"is of shape {list(values.shape)}, and the schema declares {list(tensor.shape)}")
        values = values.reshape(tensor.shape)
    check_values(tensor, values)
    return tensor.stored(values)


def check_values(tensor: Tensor, values: Values) -> None:
    """Raise `TensorFault` for NaN and infinity, and outside the bounds where those are not clamped."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise TensorFault("holds NaN or infinity; fill in what is missing, or leave the record out")
    low, high = values.min(), values.max()
    if tensor.outside == "refuse" and (low < tensor.minimum or high > tensor.maximum):
        value, side, bound = (
            (low, "below minimum", tensor.minimum) if low < tensor.minimum else (high, "above maximum", tensor.maximum)
        )
        raise TensorFault(f"holds {value:g}, {side} {bound:g}; widen the bounds, or write outside = 'clamp'")


def _array(content: bytes) -> Values:
    try:
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except (ValueError, EOFError, OSError, MemoryError):
        raise TensorFault("is no array of numbers that numpy wrote; save it with numpy.save") from None


def _picture(tensor: Tensor, form: str, content: bytes) -> Values:
    """[channels, height, width] of a PNG or JPEG file."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    with reading(form), Image.open(io.BytesIO(content), formats=[form]) as picture:
        _check_pixels(*picture.size)
        if getattr(picture, "n_frames", 1) != 1:
            raise TensorFault("holds several pictures; save one")
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            if tensor.colours != 1:
                raise TensorFault(f"is grey ({picture.mode}), and the schema declares 3 channels")
            return np.asarray(picture)[np.newaxis]
        channels = np.asarray(picture.convert("L" if tensor.colours == 1 else "RGB"))
    return channels[np.newaxis] if channels.ndim == 2 else np.moveaxis(channels, -1, 0)


def _dicom(tensor: Tensor, content: bytes) -> Values:
    """[1, height, width] of a DICOM file's one frame, in the units of its rescale slope and intercept."""
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_rescale

    with reading("DICOM", instead="save it anew, uncompressed"):
        record = dcmread(io.BytesIO(content))
        if "PixelData" not in record:
            raise TensorFault("is DICOM without a picture; leave the record out")
        if str(record.get("BurnedInAnnotation", "")).upper() == "YES":
            raise TensorFault(
                "says that text is burned into the picture (0028,0301), which may be a name; cover it, or leave the"
                " record out"
            )
        _check_pixels(int(record.Columns), int(record.Rows))
        if int(record.get("NumberOfFrames", 1) or 1) != 1:
            raise TensorFault(f"has {record.NumberOfFrames} frames; save one")
        photometric = str(record.get("PhotometricInterpretation", ""))
        if not photometric.startswith("MONOCHROME") or tensor.colours != 1:
            raise TensorFault(f"is {photometric[:20]!r}; grey pictures are read, for shape = [1, height, width]")
        raw = record.pixel_array
        if photometric == "MONOCHROME1":  # in which larger is darker
            low = -(1 << (record.BitsStored - 1)) if record.PixelRepresentation else 0
            raw = 2 * low + (1 << record.BitsStored) - 1 - raw.astype(np.int64)
        return np.asarray(apply_rescale(raw, record))[np.newaxis]


def _check_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise TensorFault(f"is {width} × {height} pixels, above {MOST_PIXELS:,}; save it smaller")


def _resized(tensor: Tensor, image: Values) -> Values:
    """The image in the tensor's size, each channel as declared; as it is where it has that size."""
    height, width = tensor.shape[1:]
    if image.shape[1:] == (height, width):
        return image
    if tensor.resize == "refuse":
        raise TensorFault(
            f"is {image.shape[2]} × {image.shape[1]} pixels, and the schema declares {width} × {height}; write"
            " resize = 'area' to have it resized"
        )
    from PIL import Image

    how = Image.Resampling.BOX if tensor.resize == "area" else Image.Resampling.BILINEAR
    channels = [Image.fromarray(channel.astype(np.float32)).resize((width, height), how) for channel in image]
    return np.stack([np.asarray(channel) for channel in channels])
