"""The one-run audit finds what it can see of the planted faults, and nothing in ours."""

import pytest

from tests.proof.faults import FAULTS
from tests.proof.one_run import SHOWN, SURPLUS, audited

pytestmark = pytest.mark.nightly


@pytest.mark.parametrize("name", SHOWN)
def test_the_one_run_audit_finds_the_fault(name: str) -> None:
    with next(fault for fault in FAULTS if fault.name == name).plant():
        assert audited().surplus > SURPLUS


@pytest.mark.parametrize("seed", range(5))
def test_the_one_run_audit_finds_nothing_in_ours(seed: int) -> None:
    assert abs(audited(seed=seed).surplus) < SURPLUS
