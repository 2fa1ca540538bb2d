"""WFDB records: numbers as the format's own library reads them, resampled and cut as declared; faults with reasons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest

from datasites.vault.signals import SAMPLES, file_of_samples, resampled, signal
from datasites.vault.tensor_faults import TensorFault
from datasites.vault.tensor_files import tensors_to_write
from datasites.vault.tensor_sources import TensorSources
from datasites.vault.tensor_values import decoded, kept
from policies.errors import DataRefused
from policies.schema.tensors import Tensor
from tests.datasites.vault.test_tensor_sources import SCHEMA, table, written

ECG = Tensor(name="ecg", shape=(2, 100), minimum=-5, maximum=5, unit="mV", dtype="float32", sampling_rate=100)
LOWEST = {16: -(1 << 15), 24: -(1 << 23), 32: -(1 << 31), 61: -(1 << 15), 80: -128, 160: -(1 << 15), 212: -2048}


def encoded(numbers: npt.NDArray[np.int64], form: int) -> bytes:
    """[samples, channels] as a file of WFDB has them."""
    flat = numbers.reshape(-1)
    if form == 80:
        return bytes((flat + 128).astype("u1"))
    if form == 160:
        return (flat + (1 << 15)).astype("<u2").tobytes()
    if form == 24:
        return b"".join((int(number) & 0xFFFFFF).to_bytes(3, "little") for number in flat)
    if form == 212:
        twelve = [int(number) & 0xFFF for number in flat] + [0] * (len(flat) % 2)
        pairs = zip(twelve[::2], twelve[1::2], strict=True)
        raw = b"".join(bytes((one & 255, one >> 8 | two >> 8 << 4, two & 255)) for one, two in pairs)
        return raw[: -(-len(flat) * 3 // 2)]
    return flat.astype({16: "<i2", 32: "<i4", 61: ">i2"}[form]).tobytes()


def header(numbers: npt.NDArray[np.int64], form: str = "16", *, rate: str = "100", **changes: Any) -> bytes:
    """A record's header, with a name in a comment."""
    said = {"gain": "200(7)/mV", "checksum": True, "file": "r.dat", "record": "r", **changes}
    lines = [f"{said['record']} {numbers.shape[1]} {rate} {len(numbers)} 12:00:00 01/02/1990"]
    for place, total in enumerate(numbers.sum(0)):
        check = (int(total) + (1 << 15)) % (1 << 16) - (1 << 15) if said["checksum"] is True else said["checksum"]
        lines.append(f"{said['file']} {form} {said['gain']} 12 0 {numbers[0, place]} {check} 0 lead {place}")
    return "\n".join([*lines, "# Jane Doe, 42", ""]).encode()


SIGNALS = SCHEMA.from_toml(
    'name = "e"\npopulation = "p"\npatient = "patient"\n[columns.sick]\nkind = "boolean"\n[tensors.xray]\n'
    'shape = [2, 100]\nminimum = -5\nmaximum = 5\ndtype = "float32"\nsampling_rate = 100\nunit = "mV"\n'
)
NUMBERS = np.random.default_rng(1).integers(-900, 900, (100, 2))


@pytest.mark.parametrize("form", sorted(LOWEST))
@pytest.mark.parametrize("samples", [99, 100])
def test_numbers_of_every_format_come_back(form: int, samples: int) -> None:
    # The same as `wfdb.rdrecord` of wfdb 4.3.1 on such files, of one to three channels, when this was written.
    low = LOWEST[form]
    numbers = np.random.default_rng(form).integers(low + 1, -low, (samples, 3))
    tensor = Tensor(name="ecg", shape=(3, samples), minimum=-5, maximum=5, unit="mV", sampling_rate=100)
    found = signal(tensor, header(numbers, str(form)), encoded(numbers, form))
    np.testing.assert_allclose(found, (numbers.T - 7) / 200, rtol=1e-12)
    numbers[3, 1] = low  # means that nothing was recorded
    assert np.isnan(signal(tensor, header(numbers, str(form)), encoded(numbers, form))[1, 3])


def test_samples_behind_a_files_own_header_are_found() -> None:
    content = b"\7" * 24 + encoded(NUMBERS, 16)
    found = signal(ECG, header(NUMBERS, "16+24", file="r.mat"), content)
    np.testing.assert_allclose(found, (NUMBERS.T - 7) / 200)


def test_channels_are_taken_by_name_in_the_declared_order() -> None:
    tensor = Tensor(name="ecg", shape=(1, 100), minimum=-5, maximum=5, channels=("lead 1",), sampling_rate=100)
    found = signal(tensor, header(NUMBERS), encoded(NUMBERS, 16))
    np.testing.assert_allclose(found[0], (NUMBERS[:, 1] - 7) / 200)


@pytest.mark.parametrize("rate", [250.0, 500.0, 360.0, 50.0, 99.5])
def test_what_both_rates_hold_is_kept_and_nothing_folds_into_it(rate: float) -> None:
    tensor = Tensor(name="ecg", shape=(1, 400), minimum=-5, maximum=5, sampling_rate=100, window="middle")
    times = np.arange(int(10 * rate)) / rate
    wanted = (np.arange(400) + (int(10 * rate) * 100 / rate + 1e-9 - 400) // 2) / 100
    slow = resampled(np.sin(2 * np.pi * 7 * times)[np.newaxis], rate, tensor)
    np.testing.assert_allclose(slow[0], np.sin(2 * np.pi * 7 * wanted), atol=2e-3)
    constant = resampled(np.full((1, len(times)), 3.0), rate, tensor)
    np.testing.assert_allclose(constant, 3.0)
    if rate > 200:
        assert np.abs(resampled(np.sin(2 * np.pi * 90 * times)[np.newaxis], rate, tensor)).max() < 2e-3


def test_a_longer_signal_is_cut_where_that_is_declared() -> None:
    values = np.arange(9.0)[np.newaxis]
    said = {"name": "ecg", "shape": (1, 4), "minimum": 0.0, "maximum": 10.0, "dtype": "float32"}
    for window, expected in (("start", [0, 1, 2, 3]), ("middle", [2, 3, 4, 5])):
        tensor = Tensor(**said, window=window)  # type: ignore[arg-type]
        np.testing.assert_allclose(tensor.natural(kept(tensor, values))[0], expected, atol=1e-6)
    with pytest.raises(TensorFault, match="has 9 samples, and the schema declares 4; write window"):
        kept(Tensor(**said), values)  # type: ignore[arg-type]
    with pytest.raises(TensorFault, match="has 3 samples"):
        kept(Tensor(**said, window="start"), values[:, :3])  # type: ignore[arg-type]


PADDED = Tensor(
    name="ecg", shape=(2, 6), minimum=-5, maximum=5, dtype="float32", sampling_rate=100, shorter="pad", padding=-4.5
)


@pytest.mark.parametrize("kind", ["float16", "float64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("samples", [1, 5, 6])
def test_a_shorter_signal_is_filled_up_with_the_declared_value(kind: str, samples: int) -> None:
    values = (np.arange(2 * samples).reshape(2, samples) % 2).astype(kind)
    found = PADDED.natural(kept(PADDED, values))
    assert found.shape == (2, 6)
    np.testing.assert_allclose(found[:, :samples], values, atol=1e-5)
    np.testing.assert_allclose(
        found[:, samples:], -4.5, atol=1e-5
    )  # of whole numbers too: nothing is rounded to theirs


def test_padding_hides_no_fault_of_the_samples() -> None:
    with pytest.raises(TensorFault, match="NaN"):
        kept(PADDED, np.array([[0.0, np.nan], [0.0, 0.0]]))
    with pytest.raises(TensorFault, match="above maximum 5"):
        kept(PADDED, np.full((2, 3), 6))
    with pytest.raises(TensorFault, match="has 0 samples at 100 Hz, and the schema declares 6; leave the record out"):
        kept(PADDED, np.empty((2, 0)))
    with pytest.raises(TensorFault, match="has 7 samples"):  # longer is another question
        kept(PADDED, np.zeros((2, 7)))
    with pytest.raises(TensorFault, match=r"shape \[3, 2\]"):
        kept(PADDED, np.zeros((3, 2)))
    with pytest.raises(TensorFault, match="write shorter = 'pad'"):
        kept(replace(PADDED, shorter="refuse", padding=0.0), np.zeros((2, 3)))


@pytest.mark.parametrize("rate", [250.0, 500.0, 99.5, 50.0])
def test_a_shorter_signal_is_resampled_before_it_is_filled_up(rate: float) -> None:
    tensor = replace(PADDED, shape=(1, 400))
    recorded = np.full((1, int(2 * rate)), 3.0)
    taken = int(recorded.shape[1] * 100 / rate + 1e-9)
    found = resampled(recorded, rate, tensor)[0]
    np.testing.assert_allclose(found[:taken], 3.0)  # to the last one: the padding is in no mean
    np.testing.assert_array_equal(found[taken:], -4.5)
    assert len(found) == 400
    # A long one is computed in parts, of at most 2^20 // (2 · 16 + 1) = 31,775 samples.
    long = resampled(np.full((1, int(120 * rate)), 3.0), rate, replace(tensor, shape=(1, 40_000), sampling_rate=300))[0]
    np.testing.assert_allclose(long[:36_000], 3.0)
    np.testing.assert_array_equal(long[36_000:], -4.5)
    with pytest.raises(TensorFault, match="has 0 samples"):  # shorter than one sample of the declared rate
        resampled(recorded[:, :1], 500.0, tensor)


@pytest.mark.process
def test_a_signal_of_a_wfdb_record_is_filled_up_where_it_is_declared_and_else_nothing_is_published(
    tmp_path: Path,
) -> None:
    for name, numbers in (("long", NUMBERS), ("short", NUMBERS[:60])):
        (tmp_path / f"{name}.hea").write_bytes(header(numbers, file=f"{name}.dat"))
        (tmp_path / f"{name}.dat").write_bytes(encoded(numbers, 16))
    frame = table(["long.hea", "short.hea"])
    with pytest.raises(DataRefused, match=r"row 3, column 'xray': 'short\.hea' has 60 samples at 100 Hz") as refusal:
        written(frame, tmp_path, tmp_path, SIGNALS)
    assert refusal.value.total == 1
    padded = SCHEMA.from_toml(SIGNALS.to_toml() + 'shorter = "pad"\npadding = 1.5\n')
    short, long = padded.tensors[0].natural(written(frame, tmp_path, tmp_path, padded))
    np.testing.assert_allclose(long, (NUMBERS.T - 7) / 200, atol=1e-5)
    np.testing.assert_allclose(short[:, :60], (NUMBERS[:60].T - 7) / 200, atol=1e-5)
    np.testing.assert_allclose(short[:, 60:], 1.5, atol=1e-5)


@pytest.mark.process
@pytest.mark.parametrize("channels", [1, 2])
def test_lists_of_every_length_are_filled_up(tmp_path: Path, channels: int) -> None:
    schema = SCHEMA.from_toml(
        SIGNALS.to_toml().replace("shape = [2, 100]", f"shape = [{channels}, 4]") + 'shorter = "pad"\npadding = -5\n'
    )
    rows: list[Any] = [[1.0, 2.0], [3.0], [1.0, 2.0, 3.0, 4.0]]
    expected = [[[*row, *[-5.0] * (4 - len(row))]] * channels for row in rows]
    cells = rows if channels == 1 else [[row] * channels for row in rows]

    def found(cells: list[Any]) -> Any:
        frame = pd.DataFrame({"xray": pd.Series(cells, dtype=pd.ArrowDtype(pa.array(cells).type))})
        return schema.tensors[0].natural(written(frame, None, tmp_path, schema))[::-1]

    np.testing.assert_allclose(found(cells), expected, atol=1e-5)
    with pytest.raises(DataRefused, match="1 fault"):
        found([*cells, [] if channels == 1 else [[], []]])
    if channels == 2:  # channels of two lengths are no signal, whatever they come to together
        with pytest.raises(DataRefused, match=r"shape \[4\]"):
            found([*cells, [[1.0], [1.0, 2.0, 3.0]]])


@pytest.mark.process
def test_how_long_a_signal_was_shows_in_no_size_and_no_declaration(tmp_path: Path) -> None:
    schema = SCHEMA.from_toml(SIGNALS.to_toml() + 'shorter = "pad"\n')
    sizes, heads = set(), set()
    for version, samples in (("one", 1), ("two", 99), ("three", 100)):
        np.save(tmp_path / "r.npy", np.zeros((2, samples)))
        with (
            tensors_to_write(tmp_path, version, schema, 1) as files,
            TensorSources(table(["r.npy"]), schema, tmp_path, scratch=tmp_path) as sources,
        ):
            sources.write(np.arange(1), files)
        content = (tmp_path / "tensors" / version / "0.npy").read_bytes()
        sizes.add(len(content))
        heads.add(content[:128])
    assert len(sizes) == len(heads) == 1


@pytest.mark.parametrize(
    ("head", "content", "why"),
    [
        (header(NUMBERS, "516"), b"", "format 516"),
        (header(NUMBERS, "16x2"), b"", "frame"),
        (header(NUMBERS, "16:3"), b"", "skew"),
        (header(NUMBERS, record="r/3"), b"", "segments"),
        (header(NUMBERS, rate="0"), b"", "no header"),
        (header(NUMBERS, rate="nan"), b"", "no header"),
        (header(NUMBERS, gain="nan"), b"", "no header"),
        (b"\x89PNG", b"", "no header"),
        (b"r 99 100\n", b"", "no header"),
        (header(NUMBERS, checksum=5), encoded(NUMBERS, 16), "checksum"),
        (header(NUMBERS, gain="200/uV"), encoded(NUMBERS, 16), "'uV', and the schema declares 'mV'"),
        (header(NUMBERS), encoded(NUMBERS, 16)[:-1], "fewer samples"),
        (header(NUMBERS[:, :1]), encoded(NUMBERS[:, :1], 16), "1 channels, and the schema declares 2"),
    ],
)
def test_what_is_not_read_is_refused_by_name(head: bytes, content: bytes, why: str) -> None:
    with pytest.raises(TensorFault, match=why):
        decoded(ECG, ".hea", head + b"\0" + content)


def test_samples_that_were_not_recorded_are_refused() -> None:
    numbers = NUMBERS.copy()
    numbers[4, 0] = LOWEST[16]
    with pytest.raises(TensorFault, match="NaN"):
        decoded(ECG, ".hea", header(numbers) + b"\0" + encoded(numbers, 16))


def test_a_signal_needs_a_declared_rate() -> None:
    for tensor in (SCHEMA.tensors[0], Tensor(name="ecg", shape=(2, 100), minimum=-5, maximum=5)):
        with pytest.raises(TensorFault, match="declare shape = \\[channels, samples\\] and sampling_rate"):
            decoded(tensor, ".hea", header(NUMBERS) + b"\0" + encoded(NUMBERS, 16))


@pytest.mark.process
@pytest.mark.parametrize("named", ["../r.dat", "/etc/r.dat", "link.dat", "r.png", "there/r.dat", ".."])
def test_a_header_leads_to_no_file_elsewhere(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "records"
    (folder / "there").mkdir(parents=True)
    for path in (tmp_path / "r.dat", folder / "there" / "r.dat", folder / "r.png"):
        path.write_bytes(encoded(NUMBERS, 16))
    (folder / "link.dat").symlink_to(tmp_path / "r.dat")
    (folder / "r.hea").write_bytes(header(NUMBERS, file=named))
    with pytest.raises(DataRefused, match="1 fault"):
        written(table(["r.hea"]), folder, tmp_path, SIGNALS)
    (folder / "r.dat").write_bytes(encoded(NUMBERS, 16))
    (folder / "r.hea").write_bytes(header(NUMBERS))  # beside it, the same is read
    written(table(["r.hea"]), folder, tmp_path, SIGNALS)


def test_channels_in_several_files_are_refused() -> None:
    lines = header(NUMBERS).replace(b"r.dat", b"s.dat", 1)
    with pytest.raises(TensorFault, match="2 files"):
        file_of_samples(lines)
    assert ".hea" not in SAMPLES


@pytest.mark.process
def test_records_are_read_beside_their_headers_and_nothing_of_a_header_is_kept(tmp_path: Path) -> None:
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "r.hea").write_bytes(header(NUMBERS))
    (tmp_path / "ward" / "r.dat").write_bytes(encoded(NUMBERS, 16))
    assert SCHEMA.from_toml(SIGNALS.to_toml()) == SIGNALS
    found = written(table(["ward/r.hea"]), tmp_path, tmp_path, SIGNALS)
    np.testing.assert_allclose(SIGNALS.tensors[0].natural(found)[0], (NUMBERS.T - 7) / 200, atol=1e-5)
