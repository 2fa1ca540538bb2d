"""Every planted fault is found by the detector that its power was worked out for, and nothing is found in ours."""

import pytest

from tests.proof.decisions import WANTED_POWER, power
from tests.proof.registry import STATIC, Fault, cases, controls, faults
from tests.proof.trials import found_by_shape, power_of, trials_of, trials_of_case, tried

BY_TRIALS = [fault for fault in faults() if fault.detector != STATIC]
BY_SHAPE = [fault for fault in faults() if fault.detector == STATIC]


def named(fault: Fault) -> str:
    return fault.name


@pytest.mark.parametrize("fault", BY_TRIALS, ids=named)
def test_the_trade_off_test_finds_the_fault(fault: Fault) -> None:
    case = cases()[fault.case]
    assert case.curve  # of the declared mechanism, before anything is spoilt
    assert power_of(fault) >= WANTED_POWER
    with fault.plant():
        outcome = tried(case, trials_of(fault))
    assert outcome.found, outcome


@pytest.mark.parametrize("fault", BY_SHAPE, ids=named)
def test_the_static_check_finds_the_fault_and_nothing_in_ours(fault: Fault) -> None:
    with fault.plant():
        assert found_by_shape(cases()[fault.case])
    assert not found_by_shape(cases()[fault.case])


@pytest.mark.parametrize("name", [name for name, case in cases().items() if not case.each_night])
def test_ours_stays_within_the_curve_of_what_was_declared(name: str) -> None:
    outcome = tried(cases()[name], trials_of_case(name))
    assert not outcome.found, outcome


@pytest.mark.parametrize("name", cases())
def test_no_pair_has_so_few_trials_that_it_cannot_fail(name: str) -> None:
    assert power(cases()[name].curve, 0.0, 1.0, trials_of_case(name)) >= WANTED_POWER


@pytest.mark.parametrize("fault", controls(), ids=named)
def test_a_pair_that_no_fault_names_can_fail(fault: Fault) -> None:
    case = cases()[fault.case]
    assert case.curve
    with fault.plant():
        outcome = tried(case, trials_of_case(fault.case))
    assert outcome.found, outcome
