"""A program without its copies computes the same bits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from datasites.engine.lanes import lowering
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.instructions import INSTRUCTIONS
from datasites.engine.lanes.programs import Program
from datasites.engine.lanes.sums import LaneSums
from datasites.engine.lanes.verifier import verified
from tests.datasites.engine.lanes.models import HOSTILE, MODELS, graph_of, program_of, weights_of


def with_copies(name: str, patch: pytest.MonkeyPatch) -> Program:
    patch.setattr(lowering, "without_copies", lambda code, terms, always: (code, terms))
    loss = (MODELS | HOSTILE)[name][2]
    return lowering.lowered(graph_of(name), loss, 3 if name == "one logit a class" else 2)[0]


def counted(program: Program) -> Counter[str]:
    return Counter(INSTRUCTIONS[words[0]].name for words in program.code.tolist())


@pytest.mark.parametrize("name", [*MODELS, *HOSTILE])
def test_every_bit_stays(name: str, kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    checked, _ = program_of(name)
    former = verified(with_copies(name, monkeypatch))
    rng = np.random.default_rng(10)
    inputs = rng.uniform(-1, 1, (40, checked.program.features)).astype(np.float32)
    labels, rows = rng.integers(0, 2, 40).astype(np.float32), np.arange(40)

    def total(of: Any) -> Any:
        sums = LaneSums(of, kernels, 0.37, most=40)
        sums.weights[:] = weights_of(name)
        return sums.sum(inputs, labels, rows)

    assert np.array_equal(total(checked), total(former))
    assert len(checked.program.code) <= len(former.program.code)


def test_an_lstm_joins_its_gates_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    program, former = program_of("LSTM")[0].program, with_copies("LSTM", monkeypatch)
    # Before: four gates of six steps joined, and the steps stacked once more, for the layer's other parameter.
    assert counted(former)["move"] >= 30
    assert counted(program)["move"] <= 1
    assert program.own < 0.7 * former.own
    assert counted(former)["sum"] - counted(program)["sum"] >= 12  # sums over one number
