"""One declared tensor: what each record has beside its columns, as an image or a signal, and how a model gets it.

    [tensors.xray]
    shape = [1, 64, 64]         # of one record: channels first, as convolutions take it
    dtype = "uint8"             # how finely it is kept: uint8, float16 or float32
    minimum = 0                 # in the source's own units; of a CT the window, as -160 and 240 of Hounsfield's
    maximum = 255
    outside = "clamp"           # or "refuse", the default: what publishing does outside the bounds
    scaling = "symmetric"       # a model gets [-1, 1], the default; or "unit", [0, 1]
    resize = "area"             # or "bilinear"; "refuse", the default, takes images of that shape alone
    header = "xray_file"        # the table's column that names each record's file or holds its values; else the name
    description = "Chest X-ray, frontal"

    [tensors.ecg]
    shape = [2, 1000]           # of a signal: channels, samples
    dtype = "float16"
    minimum = -5
    maximum = 5
    unit = "mV"
    channels = ["II", "V5"]     # which of a file's, in this order; left out, all
    sampling_rate = 100         # in Hz: files of another are resampled
    window = "start"            # "middle" or "end": which samples of a longer one; "refuse", the default, takes none
    shorter = "pad"             # after a shorter one's last sample comes `padding`; "refuse", the default, takes none
    padding = 0                 # in the unit, inside the bounds; 0 where it is left out

    [tensors.diagnoses]
    shape = [32]                # of a sequence of codes: places
    vocabulary = ["E11", "I10", "J18"]      # a model gets their numbers from 2 on; 0 fills places that are left
    outside = "clamp"           # any other code is 1; "refuse", the default, refuses it
    window = "end"

A record's tensor is kept at its hospital as so many whole or half numbers, `stored`: uint8 counts 255 equal steps from
minimum to maximum; floats are scaled to [-1, 1]. Whatever is stored, what a model gets (`scaled`) is finite and inside
its bounds, and depends on that record alone.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.canonical import canonical
from policies.errors import DataRefused
from policies.schema.as_written import check_header
from policies.schema.columns import LARGEST_BOUND, LARGEST_DESCRIPTION, check_choice, check_name, check_text, is_number

DTYPES = ("uint8", "float16", "float32")
CODES = "uint16"  # dtype of numbers of codes
NO_CODE, OTHER_CODE, FIRST_CODE = 0, 1, 2
MOST_CODES, LONGEST_CODE = 4096, 40
SCALINGS = ("symmetric", "unit")
RESIZES = ("refuse", "area", "bilinear")
WINDOWS = ("refuse", "start", "middle", "end")
SHORTER = ("refuse", "pad")
FASTEST = 1e6  # Hz
MOST_TENSORS = 8
MOST_ELEMENTS = 1 << 22  # of one record: a radiograph of 2048 by 2048
MOST_DIMENSIONS = 4
STEPS = 255  # of uint8, from the lowest value to the highest
SMOOTH = 7  # places of a made-up tensor between two values that are drawn

SEPARATED = re.compile(r"[\s,;|]+")  # what parts codes in a text

Stored = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor as its owner declares it; every field is public.

    Args:
      name: as of a column.
      shape: of one record, 1 to 4 dimensions, at most 4,194,304 numbers.
      dtype: one of `DTYPES`: how finely it is kept.
      minimum: smallest value, in the source's units.
      maximum: largest value, above `minimum`.
      outside: `"refuse"` or `"clamp"`: what publishing does with a value outside the bounds.
      scaling: one of `SCALINGS`: what a model gets.
      resize: one of `RESIZES`: what publishing does with an image of another size; a volume takes `"area"` alone.
      channels: of a signal [channels, samples], its files' names of them; none where all are taken.
      sampling_rate: of a signal, in Hz, at most 1e6; 0 where nothing is resampled.
      window: one of `WINDOWS`: which samples or codes publishing takes of a longer signal or sequence.
      shorter: one of `SHORTER`: what publishing does with a signal of fewer samples; codes are filled up anyway.
      padding: value of the samples that a shorter signal has not, from `minimum` to `maximum`; 0 unless it is padded.
      vocabulary: of a sequence of codes, all that are known; then dtype and bounds follow from it.
      header: the table's, where it is not the name.

    Raises:
      DataRefused: a declaration is missing, unsafe or outside its limits.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    minimum: float = 0.0
    maximum: float = 255.0
    outside: str = "refuse"
    scaling: str = "symmetric"
    resize: str = "refuse"
    channels: tuple[str, ...] = ()
    sampling_rate: float = 0.0
    window: str = "refuse"
    shorter: str = "refuse"
    padding: float = 0.0
    vocabulary: tuple[str, ...] = ()
    unit: str = ""
    header: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_name("tensor", self.name)
        where = f"Tensor {self.name!r}"
        sizes = self.shape
        if not isinstance(sizes, tuple) or not 1 <= len(sizes) <= MOST_DIMENSIONS:
            raise DataRefused(f"{where}: shape={sizes!r} has not 1 to {MOST_DIMENSIONS} sizes. Write [1, 64, 64].")
        if not all(type(size) is int and size >= 1 for size in sizes) or math.prod(sizes) > MOST_ELEMENTS:
            raise DataRefused(
                f"{where}: shape={list(sizes)} should be whole sizes from 1 whose product is at most {MOST_ELEMENTS:,}."
                " Resize to fewer."
            )
        self._check_codes(where)
        check_choice(f"{where}: dtype", self.dtype, (CODES,) if self.is_codes else DTYPES)
        check_choice(f"{where}: outside", self.outside, ("refuse", "clamp"))
        check_choice(f"{where}: scaling", self.scaling, SCALINGS)
        check_choice(f"{where}: resize", self.resize, RESIZES)
        check_choice(f"{where}: window", self.window, WINDOWS)
        check_choice(f"{where}: shorter", self.shorter, SHORTER)
        check_text(f"{where}: unit", self.unit, most=40)
        check_text(f"{where}: description", self.description, most=LARGEST_DESCRIPTION, lines=True)
        check_header(f"{where}: header", self.header)
        for name, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if not is_number(bound) or abs(bound) > LARGEST_BOUND:
                raise DataRefused(f"{where}: {name}={bound!r} is not a number within ±{LARGEST_BOUND:g}.")
        if self.maximum - self.minimum <= 1e-9 * max(abs(self.minimum), abs(self.maximum)):
            raise DataRefused(f"{where}: maximum={self.maximum} is not above minimum={self.minimum}. Widen the bounds.")
        if self.resize != "refuse" and self.colours is None and not (self.is_volume and self.resize == "area"):
            raise DataRefused(
                f"{where}: resize={self.resize!r} is for images, whose shape is [1, height, width] or [3, height,"
                f" width], and 'area' also for volumes of [1, x, y, z]; not for {list(sizes)}. Write resize = 'refuse'."
            )
        self._check_signal(where)
        self._check_padding(where)

    def _check_codes(self, where: str) -> None:
        if not isinstance(self.vocabulary, tuple) or len(self.vocabulary) > MOST_CODES:
            raise DataRefused(f"{where}: vocabulary should be a list of at most {MOST_CODES:,} codes. Declare groups.")
        for code in self.vocabulary:
            check_text(f"{where}: a code", code, most=LONGEST_CODE, empty=False)
            if SEPARATED.search(code):
                raise DataRefused(f"{where}: the code {code!r} has a space, comma, semicolon or bar, which part codes.")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise DataRefused(f"{where}: the vocabulary names a code twice.")
        if not self.is_codes:
            return
        if len(self.shape) != 1 or self.channels or self.sampling_rate or self.unit:
            raise DataRefused(f"{where}: codes have a shape of one size, as [32], and no channels, rate and unit.")
        if (self.minimum, self.maximum, self.scaling) != (0.0, self.last_code, "symmetric"):
            raise DataRefused(f"{where}: bounds and scaling follow from the vocabulary. Leave them out.")

    def _check_signal(self, where: str) -> None:
        if not is_number(self.sampling_rate) or not 0 <= self.sampling_rate <= FASTEST:
            raise DataRefused(f"{where}: sampling_rate={self.sampling_rate!r} is not a number of Hz up to {FASTEST:g}.")
        if not isinstance(self.channels, tuple):
            raise DataRefused(
                f'{where}: channels={self.channels!r} is no list of names. Write channels = ["II", "V5"].'
            )
        for name in self.channels:
            check_text(f"{where}: a channel", name, most=40)
        if len(set(self.channels)) != len(self.channels):
            raise DataRefused(f"{where}: channels={list(self.channels)!r} names one twice.")
        if self.is_codes or not (self.channels or self.sampling_rate or self.window != "refuse"):
            return
        if not self.is_signal:
            raise DataRefused(
                f"{where}: channels, sampling_rate and window are for signals, whose shape is [channels, samples],"
                f" not {list(self.shape)}."
            )
        if self.channels and len(self.channels) != self.shape[0]:
            raise DataRefused(f"{where}: {len(self.channels)} channels are named, and the shape has {self.shape[0]}.")

    def _check_padding(self, where: str) -> None:
        if self.is_padded and not self.is_signal:
            raise DataRefused(
                f"{where}: shorter = 'pad' is for signals, whose shape is [channels, samples], not {list(self.shape)};"
                " a sequence of codes is filled without it. Leave it out."
            )
        if not is_number(self.padding) or (self.padding and not self.is_padded):
            raise DataRefused(
                f"{where}: padding={self.padding!r} is the number after a shorter signal's last sample. Write shorter ="
                " 'pad' beside it, or leave it out."
            )
        if self.is_padded and not self.minimum <= self.padding <= self.maximum:
            raise DataRefused(
                f"{where}: padding={self.padding:g} is not from minimum={self.minimum:g} to maximum={self.maximum:g}."
                " Write one of those bounds, or a value between them."
            )

    @classmethod
    def from_dict(cls, name: str, table: Any) -> Tensor:
        """A tensor of plain data, as `[tensors.name]` has it. Raises `DataRefused`."""
        where = f"Tensor {name!r}"
        if not isinstance(table, Mapping):
            raise DataRefused(f"{where} should be a table of its shape, dtype and bounds.")
        known = tuple(field for field in cls.__dataclass_fields__ if field != "name")
        for key in table:
            if key not in known:
                raise DataRefused(f"{where} has {str(key)[:60]!r}, which is not known. Use {', '.join(known)}.")
        if not isinstance(table.get("shape"), list | tuple):
            raise DataRefused(f"{where} needs the shape of one record, as shape = [1, 64, 64].")
        numbers = ("minimum", "maximum", "sampling_rate", "padding")
        bounds = {key: float(table[key]) for key in numbers if is_number(table.get(key))}
        named = ("shape", "channels", "vocabulary")
        lists = {key: tuple(table[key]) for key in named if isinstance(table.get(key), list | tuple)}
        codes = {"dtype": CODES, "maximum": float(len(lists["vocabulary"]) + 1)} if lists.get("vocabulary") else {}
        return cls(name=name, **{**codes, **table, **bounds, **lists})

    def as_dict(self) -> dict[str, Any]:
        """Plain data without the name; what is as usual is left out, but for what a reader looks for."""
        usual = {field.name: field.default for field in type(self).__dataclass_fields__.values()}
        shown = ("shape", "dtype", "minimum", "maximum") if not self.is_codes else ("shape",)
        fields = {key: value for key, value in asdict(self).items() if key in shown or value != usual[key]}
        for name in ("name", *(("dtype", "maximum") if self.is_codes else ())):  # that follow from the vocabulary
            del fields[name]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @property
    def elements(self) -> int:
        """Numbers of one record."""
        return math.prod(self.shape)

    @property
    def record_bytes(self) -> int:
        """Bytes that one record takes as it is stored; every record takes as many."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def colours(self) -> int | None:
        """1 or 3 of an image's shape; None where it is no image's."""
        return self.shape[0] if len(self.shape) == 3 and self.shape[0] in (1, 3) else None

    @property
    def is_codes(self) -> bool:
        """Whether it is a sequence of codes, by their numbers."""
        return bool(self.vocabulary)

    @property
    def last_code(self) -> int:
        """The largest number of a code: an `nn.Embedding` has one row more."""
        return len(self.vocabulary) + OTHER_CODE

    @property
    def is_signal(self) -> bool:
        """Whether it may be one of [channels, samples]."""
        return len(self.shape) == 2

    @property
    def is_padded(self) -> bool:
        """Whether a shorter signal is filled up with `padding`."""
        return self.shorter == "pad"

    @property
    def is_volume(self) -> bool:
        """Whether it may be one of [1, x, y, z]."""
        return len(self.shape) == 4 and self.shape[0] == 1

    def said(self) -> str:
        """Shape, how it is kept and its bounds, for people: "1 × 64 × 64 uint8, 0 to 255"."""
        if self.is_codes:
            return f"{self.shape[0]} places for {len(self.vocabulary):,} codes"
        unit = f" {self.unit}" if self.unit else ""
        padded = f", shorter ones filled with {self.padding:g}{unit}" if self.is_padded else ""
        return f"{' × '.join(map(str, self.shape))} {self.dtype}, {self.minimum:g} to {self.maximum:g}{unit}{padded}"

    def stored(self, values: npt.ArrayLike) -> Stored:
        """Finite values in the source's units as they are kept, those outside the bounds as the bound: any shape."""
        if self.is_codes:
            return np.asarray(np.clip(values, NO_CODE, self.last_code), dtype=np.dtype(CODES).newbyteorder("<"))
        wide = np.asarray(values, dtype=np.float64)
        share = np.clip((wide - self.minimum) / (self.maximum - self.minimum), 0, 1)
        if self.dtype == "uint8":
            return np.asarray(np.rint(share * STEPS), dtype=np.uint8)
        return np.asarray(share * 2 - 1, dtype=np.dtype(self.dtype).newbyteorder("<"))

    def scaled(self, stored: Stored) -> Float32Array:
        """What a model gets of stored values, float32 of the same shape, inside its bounds whatever is stored.

        Of codes their numbers, which float32 holds exactly.
        """
        if self.is_codes:
            return np.minimum(np.asarray(stored, np.uint16), np.uint16(self.last_code)).astype(np.float32)
        if self.dtype == "uint8":
            share = np.asarray(stored, dtype=np.uint8).astype(np.float32) * np.float32(1 / STEPS)
            return share if self.scaling == "unit" else share * np.float32(2) - np.float32(1)
        kept = np.nan_to_num(np.asarray(stored, dtype=np.float32), nan=-1.0, posinf=1.0, neginf=-1.0)
        kept = np.clip(kept, np.float32(-1), np.float32(1))
        return kept if self.scaling == "symmetric" else (kept + np.float32(1)) * np.float32(0.5)

    def codes(self, stored: Stored) -> tuple[str, ...]:
        """One record's codes as texts, "other" where it is none that is known; nothing for places that are left."""
        names = {NO_CODE: "", OTHER_CODE: "other"}
        numbers = (min(int(number), self.last_code) for number in stored)
        return tuple(names.get(n) or self.vocabulary[n - FIRST_CODE] for n in numbers if n != NO_CODE)

    def natural(self, stored: Stored) -> Float32Array:
        """Stored values in the source's units, float32 of the same shape; of codes their numbers."""
        if self.is_codes:
            return self.scaled(stored)
        share = np.asarray(stored, np.float64) / STEPS if self.dtype == "uint8" else (np.asarray(stored, float) + 1) / 2
        return np.asarray(self.minimum + share * (self.maximum - self.minimum), dtype=np.float32)

    def draw_mock(self, rows: int, *, seed: int = 0) -> Stored:
        """Made-up tensors as they are stored, [rows, *shape]: of this declaration alone, equal wherever they are drawn.

        Uniform numbers at every few places and straight lines between them, so that they look like pictures or
        signals and carry nothing of one; codes are uniform, as many as is uniform. Where shorter signals are padded,
        every second one is, from a uniform place on.
        """
        digest = hashlib.sha256(canonical(self.as_dict()) + f"/{rows}/{seed}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
        if self.is_codes:
            drawn = generator.integers(FIRST_CODE, self.last_code + 1, (rows, *self.shape))
            left_out = np.arange(self.elements) >= generator.integers(1, self.elements + 1, (rows, 1))
            return self.stored(np.where(left_out, NO_CODE, drawn))
        made = np.empty((rows, *self.shape), dtype=np.dtype(self.dtype).newbyteorder("<"))
        lengths = self._mock_lengths(rows, generator)
        together = max(1, (1 << 22) // self.elements)  # 32 MiB of float64
        smooth = [axis for axis, size in enumerate(self.shape, start=1) if size > 2 * SMOOTH]
        coarse = tuple(-(-size // SMOOTH) + 1 if size > 2 * SMOOTH else size for size in self.shape)
        for begin in range(0, rows, together):
            field = generator.random((min(together, rows - begin), *coarse))
            for axis in smooth:
                field = _between(field, axis, self.shape[axis - 1])
            natural = self.minimum + field * (self.maximum - self.minimum)
            if self.is_padded:
                left = np.arange(self.shape[1]) >= lengths[begin : begin + len(field), np.newaxis]
                natural = np.where(left[:, np.newaxis], self.padding, natural)
            made[begin : begin + len(field)] = self.stored(natural)
        return made

    def _mock_lengths(self, rows: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """[rows] samples before a made-up signal's padding. Draws nothing where none is padded."""
        if not self.is_padded:
            return np.full(rows, self.shape[-1])
        lengths = generator.integers(1, self.shape[1] + 1, rows)
        return np.where(np.arange(rows) % 2 == 0, self.shape[1], lengths)


def _between(field: npt.NDArray[np.float64], axis: int, size: int) -> npt.NDArray[np.float64]:
    """Straight lines between values that lie `SMOOTH` places apart, `size` of them along an axis."""
    places = np.arange(size) / SMOOTH
    low = places.astype(np.int64)
    share = (places - low).reshape([-1 if place == axis else 1 for place in range(field.ndim)])
    return np.asarray(np.take(field, low, axis) * (1 - share) + np.take(field, low + 1, axis) * share)
