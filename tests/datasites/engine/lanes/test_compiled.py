"""Kernels are taken for these sources and this processor alone, and whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels, KernelsMissing
from datasites.engine.lanes.sums import LaneSums
from tests.datasites.engine.lanes.models import program_of, weights_of

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def copy(kernels: Kernels, tmp_path: Path) -> Path:
    """The compiled kernels, to be damaged."""
    return Path(shutil.copytree(compiled.directory(), tmp_path / "kernels"))


def test_a_copy_loads_like_the_original(copy: Path, kernels: Kernels) -> None:
    assert set(compiled._load(copy, kernels.level).entries) == set(kernels.entries)


@pytest.mark.parametrize("name", ["three layers", "LSTM", "picture"])
def test_every_level_gives_the_same_bits(name: str, kernels: Kernels) -> None:
    checked, _ = program_of(name)
    rng = np.random.default_rng(8)
    inputs = rng.normal(0, 1, (50, checked.program.features)).astype(np.float32)
    labels = rng.integers(0, 2, 50).astype(np.float32)
    found = []
    for level in ("x86-64-v3", kernels.level):
        sums = LaneSums(checked, compiled._load(compiled.directory(), level), 0.7, most=50)
        sums.weights[:] = weights_of(name)
        found.append(sums.sum(inputs, labels, np.arange(50)).copy())
    assert np.array_equal(*found)
    assert found[0].any()


def test_a_damaged_kernel_is_not_loaded(copy: Path, kernels: Kernels) -> None:
    path = copy / f"{kernels.level}.run.o"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(KernelsMissing, match=r"run.*damaged.*python -m datasites.engine.lanes"):
        compiled._load(copy, kernels.level)


def test_a_kernel_that_is_missing_is_named(copy: Path, kernels: Kernels) -> None:
    (copy / f"{kernels.level}.add_up.o").unlink()
    with pytest.raises(KernelsMissing, match="add_up"):
        compiled._load(copy, kernels.level)


@pytest.mark.parametrize("text", ["", "{", '{"run": ["a", "b"]}'])
def test_a_damaged_list_is_not_believed(copy: Path, kernels: Kernels, text: str) -> None:
    (copy / f"{kernels.level}.json").write_text(text)
    with pytest.raises(KernelsMissing, match=r"python -m datasites\.engine\.lanes"):
        compiled._load(copy, kernels.level)


def test_other_sources_have_other_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    room = tmp_path / "lanes"
    shutil.copytree(compiled.ROOM, room, ignore=shutil.ignore_patterns("__pycache__"))
    before = compiled.fingerprint()
    monkeypatch.setattr(compiled, "ROOM", room)
    assert compiled.fingerprint() == before
    for name in ("instructions.py", "kernels/elementary.py", "kernels/vectors.py", "kernels/sums.py"):
        path = room / name
        content = path.read_text()
        path.write_text(content + "\n")
        assert compiled.fingerprint() != before, name
        path.write_text(content)
    with pytest.raises(KernelsMissing, match="No kernels are compiled"):
        compiled._load(compiled.directory(), "x86-64-v3")


def test_the_compiler_is_the_one_that_the_lock_pins() -> None:
    lock = (ROOT / "lock" / "datasite.lock").read_text()
    for compiler in compiled.COMPILER:
        assert f"\n{compiler.replace(' ', '==')} --hash" in lock


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        (compiled.LEVELS["x86-64-v3"], "x86-64-v3"),
        (compiled.LEVELS["x86-64-v3"] | compiled.LEVELS["x86-64-v4"], "x86-64-v4"),
        (compiled.LEVELS["x86-64-v4"], None),
        (compiled.LEVELS["x86-64-v3"] - {"fma"}, None),
        (set(), None),
    ],
)
def test_the_level_is_what_the_processor_has(
    flags: set[str], level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_processor_flags", lambda: flags)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    if level is not None:
        assert compiled.level_of_this_processor() == level
        return
    with pytest.raises(KernelsMissing, match=r"This processor has no .*(fma|avx)"):
        compiled.level_of_this_processor()


def test_another_architecture_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(KernelsMissing, match="aarch64"):
        compiled.level_of_this_processor()


def test_kernels_are_written_whole_and_loaded_again(
    copy: Path, kernels: Kernels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = json.loads((copy / f"{kernels.level}.json").read_text())
    objects = {
        name: (symbol, (copy / f"{kernels.level}.{name}.o").read_bytes()) for name, (symbol, _) in listed.items()
    }
    monkeypatch.setattr(compiled, "directory", lambda: tmp_path / "new")
    compiled.keep(kernels.level, objects)
    assert set(compiled._load(tmp_path / "new", kernels.level).entries) == set(kernels.entries)
    assert not [path for path in (tmp_path / "new").iterdir() if re.search(r"\.\d+$", path.name)]
