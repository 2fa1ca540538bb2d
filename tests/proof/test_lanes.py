"""The trade-off test and the fit of noise where training runs in lanes; and that it finds faults planted there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from datasites.engine.lanes import compiled, readiness, sums
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.lanes.sums import LaneSums
from policies.privacy.mechanisms import DPSGD
from tests.proof.cases import release
from tests.proof.decisions import WANTED_POWER
from tests.proof.fit import FALSE_ALARM, gaussian_p_values, released_noise
from tests.proof.mechanisms.dp_sgd import AUTOMATIC, FULL, IN_LANES, NARROW, sgd
from tests.proof.neighbours import PUBLISHED, crowd, loud
from tests.proof.registry import Fault, cases
from tests.proof.trials import power_of, trials_of, trials_of_case, tried

TRAINING = [name for name, case in cases().items() if isinstance(case.declared, DPSGD) and not case.each_night]


@pytest.fixture(autouse=True)
def summed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train in lanes, every graph lowered once; gives the sizes of the samples that were summed there."""
    try:
        kernels = compiled._load(compiled.directory(), compiled.level_of_this_processor())
    except KernelsMissing as error:
        pytest.skip(str(error))
    monkeypatch.setattr(compiled, "_loaded", kernels)
    known: dict[str, Any] = {}
    lowered, total = readiness.lowered, LaneSums.sum

    def once(graph: Any, loss: Any, classes: int, frozen: Any) -> Any:
        if frozen:
            return lowered(graph, loss, classes, frozen)
        text = json.dumps([graph.as_dict(), repr(loss), classes])
        if text not in known:
            known[text] = lowered(graph, loss, classes, frozen)
        return known[text]

    seen: list[int] = []

    def watch(self: LaneSums, inputs: Any, labels: Any, rows: Any) -> Any:
        seen.append(len(rows))
        return total(self, inputs, labels, rows)

    monkeypatch.setattr(readiness, "lowered", once)
    monkeypatch.setattr(LaneSums, "sum", watch)
    return seen


@pytest.mark.parametrize("name", TRAINING)
def test_lanes_stay_within_the_curve_of_what_was_declared(name: str, summed: list[int]) -> None:
    outcome = tried(cases()[name], trials_of_case(name))
    assert not outcome.found, outcome
    assert len(summed) > 2 * outcome.trials


@pytest.mark.parametrize("name", [FULL, AUTOMATIC])
def test_clipping_left_out_in_lanes_is_found(name: str, monkeypatch: pytest.MonkeyPatch, summed: list[int]) -> None:
    case = cases()[name]
    assert case.curve
    for module in (sums, readiness):  # gradients of length 2 where 0.5 is declared
        monkeypatch.setattr(module, "shrinkage", lambda parameters, clipping_norm: 3.0)
    outcome = tried(case, trials_of_case(name))
    assert outcome.found, outcome
    assert summed


@pytest.mark.parametrize("fault", IN_LANES, ids=lambda fault: fault.name)
def test_a_fault_in_what_a_step_in_lanes_is_made_of_is_found(fault: Fault, summed: list[int]) -> None:
    case = cases()[fault.case]
    assert case.curve
    assert power_of(fault) >= WANTED_POWER
    with fault.plant():
        outcome = tried(case, trials_of(fault))
    assert outcome.found, outcome
    assert summed


def test_the_noise_of_a_release_from_lanes_is_the_gaussian_that_was_declared(summed: list[int]) -> None:
    found = gaussian_p_values(released_noise(seed="fit"))
    assert min(found.values()) > FALSE_ALARM, found
    assert 0 in summed  # a step over nobody


def test_no_two_rounds_in_lanes_have_the_same_noise(summed: list[int]) -> None:
    first, second = (release(sgd(), crowd(0), loud(NARROW), NARROW, PUBLISHED) for _ in range(2))
    assert not all(np.array_equal(first[name], second[name]) for name in first)  # some are too loud to be moved
    assert summed
