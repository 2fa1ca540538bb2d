"""The pairs again, with so many trials that a smaller excess over the curve would show."""

import pytest

from tests.proof.cases import cases
from tests.proof.trials import tried

TRIALS = 2000

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("name", cases())
def test_ours_stays_within_the_curve_over_many_trials(name: str) -> None:
    outcome = tried(cases()[name], TRIALS, pilot=300, seed=" nightly")
    assert not outcome.found, outcome
