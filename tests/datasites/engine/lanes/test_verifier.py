"""No program runs that reads or writes what it must not; kernels have no bounds checks."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datasites.engine.lanes import sums, verifier
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.instructions import CODES, INSTRUCTIONS, LANES, Access, encoded
from datasites.engine.lanes.programs import Program
from datasites.engine.lanes.sums import LaneSums
from datasites.engine.lanes.verifier import ProgramRefused, Verified, verified
from policies.errors import DatasiteError
from tests.datasites.engine.lanes.guarded import guarded, survives
from tests.datasites.engine.lanes.models import Single, program_of

FEATURES = 4
MUTATIONS = 500  # for each of the models below
MUTATED = ("one logit a class", "layer norm", "LSTM", "picture", "transformer")


def single(kernels: Kernels, name: str = "relu", **fields: int) -> Program:
    return Single(kernels, name, FEATURES, [], **({"n": FEATURES, "sx": LANES} | fields)).program


def test_programs_of_models_are_accepted() -> None:
    for name in MUTATED:
        checked, _ = program_of(name)
        assert not checked.program.code.flags.writeable


RESULT = (FEATURES + 1) * LANES
REFUSED: dict[str, tuple[dict[str, int], str]] = {
    "beyond the end": ({"n": FEATURES + 1}, "outside"),
    "before the beginning": ({"y": -1}, "outside|slots"),
    "a stride that leaves": ({"sx": 1 << 20}, "outside"),
    "a stride back": ({"sx": -1}, "strides"),
    "half a slot": ({"x": 8}, "slots"),
    "a stride of half a slot": ({"sx": 8}, "slots"),
    "none": ({"n": 0}, "counts"),
    "more than there can be": ({"n": 1 << 30}, "counts"),
    "a field beyond bounds": ({"n": 1 << 40}, "field"),
    "what was not written": ({"x": RESULT}, "not written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_instruction_that_reaches_beyond_is_refused(case: str, kernels: Kernels) -> None:
    verified(single(kernels))
    fields, message = REFUSED[case]
    with pytest.raises(ProgramRefused, match=message):
        verified(single(kernels, **fields))


def test_an_unknown_instruction_is_refused(kernels: Kernels) -> None:
    program = single(kernels)
    for code in (len(INSTRUCTIONS), -1, 1 << 40):
        words = program.code.copy()
        words[0, 0] = code
        with pytest.raises(ProgramRefused, match="no instruction"):
            verified(replace(program, code=words))


def test_a_uniform_beyond_the_last_is_refused(kernels: Kernels) -> None:
    program = single(kernels)
    fill = np.array([encoded("fill", {"y": RESULT, "n": 1, "k": program.uniforms})], dtype=np.int64)
    with pytest.raises(ProgramRefused, match="uniforms"):
        verified(replace(program, code=np.concatenate([fill, program.code])))


def test_scratch_is_not_read_before_this_record_wrote_it(kernels: Kernels) -> None:
    # Else lane 3 of a block would read what the record in lane 3 of the block before left behind.
    program = single(kernels)
    moved = replace(
        program, scratch=LANES, record=program.record + LANES, label=program.label + LANES,
        terms=program.terms + np.array([LANES, 0, LANES, 0]),
    )  # fmt: skip
    code = [
        encoded("copy", {"y": RESULT + LANES, "n": 1, "x": 0, "sx": 0}),
        encoded("norm_direct", {"x": RESULT + LANES, "n": 1, "sx": LANES}),
    ]
    with pytest.raises(ProgramRefused, match="not written"):
        verified(replace(moved, code=np.array(code, dtype=np.int64)))
    before = encoded("copy", {"y": 0, "n": 1, "x": moved.record, "sx": 0})
    verified(replace(moved, code=np.array([before, *code], dtype=np.int64)))


def test_an_access_does_not_go_from_scratch_into_a_blocks_own_memory(kernels: Kernels) -> None:
    # There it would be the first block's, for every block.
    program = single(kernels)
    moved = replace(
        program, scratch=LANES, record=LANES, label=program.label + LANES,
        terms=program.terms + np.array([LANES, 0, LANES, 0]),
    )  # fmt: skip
    code = [
        encoded("copy", {"y": 0, "n": 1, "x": LANES, "sx": 0}),
        encoded("copy", {"y": RESULT + LANES, "n": 2, "x": 0, "sx": LANES}),
    ]
    with pytest.raises(ProgramRefused, match="outside"):
        verified(replace(moved, code=np.array(code, dtype=np.int64)))


def test_the_slots_of_an_access_are_those_of_all_its_indices(kernels: Kernels) -> None:
    rng, slots = np.random.default_rng(4), verifier._Slots(replace(single(kernels), scratch=LANES * 5000))
    for _ in range(2000):
        dimensions = int(rng.integers(0, 5))
        counts = tuple(int(count) for count in rng.integers(1, 5, dimensions))
        strides = tuple(int(stride) * LANES for stride in rng.choice([0, 1, 2, 3, 4, 8, 12, 60], dimensions))
        start = int(rng.integers(0, 20)) * LANES
        places, length = slots._places(Access(start, counts, strides))
        found = [slot for place in places for slot in range(5000)[place]]
        indices = itertools.product(*map(range, counts))
        wanted = {(start + sum(i * s for i, s in zip(index, strides, strict=True))) // LANES for index in indices}
        assert set(found) == wanted
        assert {len(range(5000)[place]) for place in places} == {length}


def test_sums_that_leave_a_parameter_out_or_name_it_twice_are_refused() -> None:
    program = program_of("two layers")[0].program
    for groups in (program.groups[:-1], program.groups[::-1], np.concatenate([program.groups, program.groups[:1]])):
        with pytest.raises(ProgramRefused):
            verified(replace(program, groups=groups))


def test_what_was_verified_cannot_be_changed() -> None:
    checked, _ = program_of("two layers")
    with pytest.raises(ValueError, match="read-only"):
        checked.program.code[0, 1] = 1 << 20


def mutated(program: Program, rng: np.random.Generator) -> Program:
    """One to three numbers changed, most of them a little."""
    arrays = {name: getattr(program, name).copy() for name in ("code", "terms", "groups")}
    sizes: dict[str, Any] = {}
    for _ in range(int(rng.integers(1, 4))):
        name = rng.choice(["code", "code", "code", "terms", "groups", "size"])
        if name == "size":
            field = str(rng.choice(["scratch", "own", "record", "label", "features", "parameters"]))
            sizes[field] = max(0, getattr(program, field) + int(rng.choice([-16, 16, -1, 1, -32, 160])))
            continue
        array = arrays[name]
        row = int(rng.integers(len(array)))
        width = len(INSTRUCTIONS[array[row, 0]].fields) + 1 if name == "code" else array.shape[1]
        column = int(rng.integers(width))
        if name == "code" and column == 0 and rng.random() < 0.9:
            column = width - 1
        change = int(rng.choice([1, -1, 2, 16, -16, 32, 160, -160, 4096, 1 << 33, -(1 << 33)]))
        if name == "code" and column == 0:
            array[row, 0] = int(rng.integers(len(CODES)))
        elif rng.random() < 0.2:
            array[row, column] = 0
        else:
            array[row, column] += change
    return replace(program, **arrays, **sizes)


def run_guarded(checked: Verified, kernels: Kernels, at_end: bool, patch: pytest.MonkeyPatch) -> None:
    """Sums of 33 records, every array that depends on the program between pages of no access."""
    patch.setattr(sums, "_aligned", lambda count, dtype: guarded(count, dtype, at_end=at_end))
    made = LaneSums(checked, kernels, 1.0, most=48)
    made.weights[:] = 0.1
    inputs = np.full((33, checked.program.features), 0.5, np.float32)
    made.sum(inputs, np.ones(33, np.float32), np.arange(33))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATED)
def test_what_the_verifier_lets_pass_stays_in_its_memory(
    name: str, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, program = np.random.default_rng(6), program_of(name)[0].program
    passed: list[Verified] = []
    for _ in range(MUTATIONS):
        try:
            passed.append(verified(mutated(program, rng)))
        except ProgramRefused:
            continue
    assert 20 < len(passed) < MUTATIONS - 100, len(passed)

    def all_of_them() -> None:
        for number, checked in enumerate(passed):
            with suppress(DatasiteError):  # too large a program, refused before it runs
                run_guarded(checked, kernels, number % 2 == 0, monkeypatch)

    assert survives(all_of_them)


@pytest.mark.slow
def test_an_unverified_program_ends_the_process_that_runs_it(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of("two layers")[0].program
    code = program.code.copy()
    linear = next(row for row in range(len(code)) if code[row, 0] == CODES["linear"])
    code[linear, 1] = program.scratch + 3 * program.own  # right after the memory of three blocks
    with pytest.raises(ProgramRefused):
        verified(replace(program, code=code))
    hostile = verifier.Verified(replace(program, code=code))
    assert not survives(lambda: run_guarded(hostile, kernels, True, monkeypatch))
    assert survives(lambda: run_guarded(verified(program), kernels, True, monkeypatch))
