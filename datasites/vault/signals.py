"""Signals in WFDB's files, as PhysioNet and recorders write them: read, resampled, cut and filled up as declared.

A record is a header (`.hea`, text) and a file of its samples, which the header names. Read is what the header says of
rate, channels, gain, baseline and unit (https://physionet.org/physiotools/wag/header-5.htm) and whole numbers of the
formats 16, 24, 32, 61, 80, 160 and 212 (signal-5.htm there). Comments, where names and ages stand, are passed over.
Refused by name are records of several segments or files, compressed formats, skew and several samples a frame. The
`wfdb` package would bring a library of sounds, a client of the web and matplotlib to a hospital for these few lines.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.vault.tensor_faults import TensorFault
from policies.schema.tensors import Tensor

SAMPLES = (".dat", ".mat")  # endings of files of samples; .mat has its numbers behind 24 bytes
LARGEST_HEADER = 1 << 16  # bytes
MOST_CHANNELS = 64
WIDTH = 16  # samples of the slower rate on each side that a resampled value is made of
USUAL_GAIN = 200.0  # numbers a unit, where a header says none

Floats = npt.NDArray[np.float64]

_FORMAT = re.compile(r"(\d{1,4})(x\d+)?(:\d+)?(\+\d{1,9})?")
_GAIN = re.compile(r"([-+0-9.eE]{1,30})(\(-?\d{1,10}\))?(/\S{1,40})?")
_MISSING = {16: -(1 << 15), 24: -(1 << 23), 32: -(1 << 31), 61: -(1 << 15), 80: -128, 160: -(1 << 15), 212: -(1 << 11)}


@dataclass(frozen=True)
class _Channel:
    file: str
    format: int
    begin: int
    gain: float
    baseline: int
    unit: str
    checksum: int  # of all samples, 16 bits; 0 where none is given
    name: str


@dataclass(frozen=True)
class _Header:
    rate: float
    samples: int
    channels: tuple[_Channel, ...]


def file_of_samples(header: bytes) -> str:
    """Name of the file that holds a header's samples, beside it. Raises `TensorFault`."""
    files = {channel.file for channel in _read(header).channels}
    if len(files) != 1:
        raise TensorFault(f"has its channels in {len(files)} files; write them to one")
    (name,) = files
    check_beside(name)
    return name


def check_beside(name: str) -> None:
    """Raise `TensorFault` for a file of samples that would not lie beside its header."""
    if "/" in name:
        raise TensorFault("names a file elsewhere; put it beside its header")


def signal(tensor: Tensor, header: bytes, samples: bytes) -> Floats:
    """[channels, samples] in the header's units, at the tensor's rate and as long as it is. Raises `TensorFault`."""
    read = _read(header)
    if not tensor.is_signal or not tensor.sampling_rate:
        raise TensorFault("is a signal; declare shape = [channels, samples] and sampling_rate = 100, in Hz")
    numbers = _numbers(read, samples)
    rows = []
    for place in _chosen(tensor, read):
        channel = read.channels[place]
        if tensor.unit and channel.unit != tensor.unit:
            raise TensorFault(
                f"has channel {channel.name!r} in {channel.unit!r}, and the schema declares {tensor.unit!r}"
            )
        values = numbers[:, place]
        if channel.checksum and (int(values.sum()) - channel.checksum) % (1 << 16):
            raise TensorFault(f"has another checksum for channel {channel.name!r} than its header; copy the files anew")
        natural = (values - channel.baseline) / channel.gain
        rows.append(np.where(values == _MISSING[channel.format], np.nan, natural))
    return resampled(np.stack(rows), read.rate, tensor)


def windowed(tensor: Tensor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The declared samples of a signal of the declared rate. Raises `TensorFault` where it is too short or long."""
    begin, taken = _span(tensor, values.shape[1])
    return _filled(tensor, values[:, begin : begin + taken])


def resampled(values: Floats, rate: float, tensor: Tensor) -> Floats:
    """The declared samples of [channels, samples] at `rate`, at the tensor's own rate.

    Each is a weighted mean of those around it, by a sinc under Hann's window that keeps what both rates can hold, so
    that nothing above half the new rate folds into it (Smith 2002, "Digital Audio Resampling"). What a shorter signal
    is filled up with comes after that, and is in no mean.
    """
    wanted = tensor.sampling_rate
    if rate == wanted:
        return windowed(tensor, values)
    begin, taken = _span(tensor, int(values.shape[1] * wanted / rate + 1e-9))
    pass_band = min(1.0, wanted / rate)
    reach = math.ceil(WIDTH / pass_band)
    made = np.empty((len(values), taken))
    together = max(1, (1 << 20) // (2 * reach + 1))
    for first in range(0, taken, together):
        places = (begin + np.arange(first, min(first + together, taken))) * (rate / wanted)
        around = np.rint(places).astype(np.int64)[:, np.newaxis] + np.arange(-reach, reach + 1)
        away = (around - places[:, np.newaxis]) * pass_band
        weights = np.sinc(away) * np.cos(np.pi / 2 * np.clip(away / (WIDTH + 1), -1, 1)) ** 2
        weights[(around < 0) | (around >= values.shape[1])] = 0
        weights /= weights.sum(1, keepdims=True)
        nearby = values[:, np.clip(around, 0, values.shape[1] - 1)]
        made[:, first : first + len(places)] = (nearby * weights).sum(2)
    return _filled(tensor, made)


def _filled(tensor: Tensor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[channels, samples] as many as are declared: after a shorter signal's last sample, the declared padding."""
    left = tensor.shape[1] - values.shape[1]
    if left == 0:
        return values
    return np.concatenate([values, np.full((len(values), left), tensor.padding)], axis=1)  # whole numbers as float64


def _span(tensor: Tensor, samples: int) -> tuple[int, int]:
    """First sample that is taken of so many, and how many are. Raises `TensorFault`."""
    wanted = tensor.shape[1]
    rate = f" at {tensor.sampling_rate:g} Hz" if tensor.sampling_rate else ""
    if samples < 1 or (samples < wanted and not tensor.is_padded):
        instead = "leave the record out" if samples < 1 else "write shorter = 'pad', or leave the record out"
        raise TensorFault(f"has {samples} samples{rate}, and the schema declares {wanted}; {instead}")
    if samples < wanted:
        return 0, samples
    if samples > wanted and tensor.window == "refuse":
        raise TensorFault(
            f"has {samples} samples{rate}, and the schema declares {wanted}; write window = 'start', 'middle' or 'end'"
        )
    return {"middle": (samples - wanted) // 2, "end": samples - wanted}.get(tensor.window, 0), wanted


def _chosen(tensor: Tensor, header: _Header) -> list[int]:
    names = [channel.name for channel in header.channels]
    if not tensor.channels:
        if len(names) != tensor.shape[0]:
            raise TensorFault(
                f"has {len(names)} channels, and the schema declares {tensor.shape[0]}; name them as channels = [...]"
            )
        return list(range(len(names)))
    for name in tensor.channels:
        if names.count(name) != 1:
            raise TensorFault(f"has {names.count(name)} channels {name!r}; it has {', '.join(names)[:200]}")
    return [names.index(name) for name in tensor.channels]


def _read(header: bytes) -> _Header:
    """What a header says. Raises `TensorFault`."""
    if len(header) > LARGEST_HEADER or b"\0" in header:
        raise TensorFault("is no header of WFDB")
    lines = [line for line in header.decode("utf-8", "replace").splitlines() if line.strip() and line[0] != "#"]
    try:
        fields = lines[0].split()
        if "/" in fields[0]:
            raise TensorFault("is a record of several segments; write each as a record of its own")
        count, rate = int(fields[1]), float(fields[2].split("/")[0]) if len(fields) > 2 else 250.0
        samples = int(fields[3]) if len(fields) > 3 else 0
        if not 1 <= count <= MOST_CHANNELS or not 0 < rate <= 1e6 or samples < 0 or len(lines) < 1 + count:
            raise ValueError
        return _Header(rate, samples, tuple(_channel(line) for line in lines[1 : 1 + count]))
    except (ValueError, IndexError, OverflowError):
        raise TensorFault(f"is no header of WFDB with 1 to {MOST_CHANNELS} channels") from None


def _channel(line: str) -> _Channel:
    fields = line.split(maxsplit=8)
    form = _FORMAT.fullmatch(fields[1])
    gain = _GAIN.fullmatch(fields[2] if len(fields) > 2 else "0")
    if form is None or gain is None:
        raise ValueError
    if int(form[1]) not in _MISSING:
        raise TensorFault(f"has format {form[1]}; read are {', '.join(map(str, sorted(_MISSING)))}: write it anew")
    if (form[2] or "x1") != "x1" or (form[3] or ":0") != ":0":
        raise TensorFault("has several samples a frame, or skew; write it anew without")
    per_unit = float(gain[1])
    if not math.isfinite(per_unit):
        raise ValueError
    zero = int(fields[4]) if len(fields) > 4 else 0
    return _Channel(
        file=fields[0],
        format=int(form[1]),
        begin=int(form[4] or 0),
        gain=per_unit or USUAL_GAIN,
        baseline=int(gain[2][1:-1]) if gain[2] else zero,
        unit=gain[3][1:] if gain[3] else "mV",
        checksum=int(fields[6]) if len(fields) > 6 else 0,
        name=fields[8].strip() if len(fields) > 8 else "",
    )


def _numbers(header: _Header, content: bytes) -> npt.NDArray[np.int64]:
    """[samples, channels] of a file's whole numbers. Raises `TensorFault`."""
    forms = {(channel.format, channel.begin) for channel in header.channels}
    if len(forms) != 1:
        raise TensorFault("has channels of several formats in one file; write it anew")
    ((form, begin),) = forms
    flat = _whole(form, np.frombuffer(content, np.uint8)[begin:])
    count = len(header.channels)
    samples = header.samples or len(flat) // count
    if samples < 1 or len(flat) < samples * count:
        raise TensorFault("has fewer samples in its file than its header says; copy the files anew")
    return flat[: samples * count].astype(np.int64).reshape(samples, count)


def _whole(form: int, raw: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """A file's numbers, one after the other; bytes that make no whole one at its end are left out."""
    if form == 80:
        return raw.astype(np.int64) - 128
    if form == 212:  # two of twelve bits in three bytes
        three = np.append(raw, np.zeros(-len(raw) % 3, np.uint8)).reshape(-1, 3).astype(np.int64)
        pairs = np.stack([(three[:, 1] & 0x0F) << 8 | three[:, 0], (three[:, 1] & 0xF0) << 4 | three[:, 2]], axis=1)
        return np.asarray((pairs + 2048) % 4096 - 2048).reshape(-1)[: len(raw) * 2 // 3]
    if form == 24:
        three = raw[: len(raw) // 3 * 3].reshape(-1, 3).astype(np.int64)
        wide = three[:, 0] | three[:, 1] << 8 | three[:, 2] << 16
        return (wide + (1 << 23)) % (1 << 24) - (1 << 23)
    kind = {16: "<i2", 32: "<i4", 61: ">i2", 160: "<u2"}[form]
    whole = raw[: len(raw) // np.dtype(kind).itemsize * np.dtype(kind).itemsize].view(kind)
    return whole.astype(np.int64) - (1 << 15) if form == 160 else whole
