"""The one-run audit finds what it can see of the planted faults, and nothing in ours."""

import pytest

from tests.proof.one_run import SHOWN, SURPLUS, audited
from tests.proof.registry import fault_named

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("name", SHOWN)
def test_the_one_run_audit_finds_the_fault(name: str) -> None:
    with fault_named(name).plant():
        assert audited().surplus > SURPLUS


@pytest.mark.parametrize("seed", range(5))
def test_the_one_run_audit_finds_nothing_in_ours(seed: int) -> None:
    assert abs(audited(seed=seed).surplus) < SURPLUS
