"""What the compiler made of the kernels: no arithmetic between lanes, no fast-math, no branch on a number, no calls."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from datasites.engine.lanes import compiled

FAST = re.compile(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b")
SPLAT = re.compile(r"shufflevector .*, <\d+ x i32> zeroinitializer")
# Lane by lane all of them; `is` asks of each number whether it is finite.
CALLED = set(
    "fma sqrt fabs rint trunc copysign assume lifetime smin smax umin umax vector masked uadd experimental is".split()
)
NAMES = ["place_records", "take_records", "sample", "step", "gaussians", "run", "add_up"]
WITHOUT_FLOATS = {"place_records", "sample"}

pytestmark = pytest.mark.slow


@cache
def compiler() -> Any:
    """The compiler, set to the level with the most code of its own, as the installation sets it."""
    import numba

    numba.config.CPU_NAME, numba.config.CPU_FEATURES = "x86-64-v4", ""
    from datasites.engine.lanes.kernels import compiler, products

    assert products.WIDE
    return compiler


@cache
def code_of(name: str) -> tuple[bytes, str]:
    _, content, text = compiler().compiled(name)
    return content, text


def lines(name: str) -> list[str]:
    return [line.strip() for line in code_of(name)[1].splitlines() if " = " in line or " call " in line]


@pytest.mark.parametrize("name", NAMES)
def test_no_instruction_may_be_rearranged(name: str) -> None:
    arithmetic = [line for line in lines(name) if re.search(r"\b(f(add|sub|mul|div|rem|neg|cmp)|llvm\.)", line)]
    assert arithmetic or name in WITHOUT_FLOATS
    assert [line for line in arithmetic if FAST.search(line.partition("@")[0])] == []


def test_a_program_moves_no_number_between_lanes() -> None:
    moving = [
        line
        for name in ("run", "gaussians", "take_records", "step")
        for line in lines(name)
        if re.search(r"\b(shufflevector|extractelement|llvm\.vector)", line)
    ]
    assert moving
    assert [line for line in moving if not SPLAT.search(line)] == []


def test_sums_move_numbers_where_they_are_packed_and_add_whole_numbers_alone() -> None:
    text = [line for line in lines("add_up") if re.search(r"llvm\.vector\.|extractelement", line)]
    assert [line for line in text if "float" in line or "double" in line or "reduce.f" in line] == []
    for line in lines("add_up"):
        if "shufflevector" in line and not SPLAT.search(line):
            assert "shufflevector <16 x float>" in line or " x i32> %" in line


@pytest.mark.parametrize("name", NAMES)
def test_no_branch_looks_at_a_number_of_a_record(name: str) -> None:
    compared = [line for line in lines(name) if " fcmp " in line]
    assert [line for line in compared if not re.search(r"fcmp \w+ <\d+ x (float|double)>", line)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_calls_nothing(name: str) -> None:
    content, text = code_of(name)
    assert compiler().undefined_symbols(content) == []
    called = {match.split(".")[0] for match in re.findall(r"call [^@]*@llvm\.([\w.]+)", text)}
    assert called <= CALLED
    assert re.findall(r"call [^@]*@(?!llvm\.)(?!_ZN)", text) == []


def test_what_is_listed_is_what_is_compiled() -> None:
    kinds = {"int64": "i", "float64": "n"}
    for name, (_, signature) in compiler().ENTRIES.items():
        assert "".join(kinds.get(str(kind), "p") for kind in signature) == compiled.ARGUMENTS[name]
