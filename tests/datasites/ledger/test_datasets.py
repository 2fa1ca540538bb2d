"""Dataset versions: published once, retired by the next."""

from __future__ import annotations

import pytest

from datasites.ledger.ledger import Ledger
from policies.errors import (
    InvalidRequest,
    WrongStatus,
)
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    ORDER,
    approve,
    approved,
    checked,
    dataset,
    released,
    submitted,
)


def test_publishing_retires_the_version_before_at_once(ledger: Ledger) -> None:
    ledger.datasets.retiring = lambda *_, **__: None  # as 0.1.0, which left its requests open
    old = approved(ledger)
    waiting = checked(ledger)
    ledger.datasets.stage(dataset("v2"))
    assert [each.version for each in ledger.datasets.list()] == ["v1"]
    ledger.datasets.publish(dataset("v2", patients=1100), actor="owner")
    assert [(each.version, each.patients) for each in ledger.datasets.list()] == [("v2", 1100)]
    assert ledger.datasets.get(version="v1").status == "retired"
    with pytest.raises(WrongStatus, match="is retired"):
        ledger.runs.admit(old, 1, "w", GAUSSIAN)
    with pytest.raises(WrongStatus, match="is retired"):
        approve(ledger, waiting)


def test_a_version_is_published_once_and_its_name_keeps_its_population(ledger: Ledger) -> None:
    with pytest.raises(WrongStatus):
        ledger.datasets.publish(dataset("v1"), actor="owner")
    ledger.budgets.create_population("county", BUDGET, ORDER)
    with pytest.raises(WrongStatus, match="belongs to population 'city'"):
        ledger.datasets.publish(dataset("v9", population="county"), actor="owner")
    with pytest.raises(InvalidRequest):
        ledger.datasets.publish(dataset("v9", patients=None), actor="owner")


def test_retiring_takes_a_dataset_back_and_keeps_its_charges(ledger: Ledger) -> None:
    released(ledger, approved(ledger))
    ledger.datasets.retire("v1", actor="owner")
    assert ledger.datasets.list() == ()
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    with pytest.raises(WrongStatus):
        ledger.datasets.retire("v1", actor="owner")


def reserved(ledger: Ledger) -> int:
    return ledger.budgets.balance("city").reserved_nano


def test_retiring_closes_the_requests_and_gives_back_what_no_run_touched(ledger: Ledger) -> None:
    half, whole, waiting, new = approved(ledger), approved(ledger), checked(ledger), submitted(ledger)
    other = approved(ledger, version="v0")
    released(ledger, half)  # one of its three runs
    ledger.datasets.retire("v1", actor="owner")
    assert reserved(ledger) == 3 * GAUSSIAN.divergence_nano  # of the other version alone
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    statuses = {request: ledger.requests.get(request).status for request in (half, whole, waiting, new, other)}
    denied, revoked = RequestStatus.DENIED, RequestStatus.REVOKED
    assert statuses == {half: revoked, whole: revoked, waiting: denied, new: denied, other: RequestStatus.APPROVED}
    for request in (half, whole, waiting, new):
        assert "taken the dataset flu back" in ledger.requests.comments(request)[-1].text
    assert ledger.runs.release(half, 1) is not None  # what left stays fetched
    ledger.verify()


def test_a_round_that_runs_while_its_dataset_is_taken_back_is_not_released(ledger: Ledger) -> None:
    request = approved(ledger)
    run = ledger.runs.start(ledger.runs.admit(request, 1, "w", GAUSSIAN).id)
    ledger.datasets.retire("v1", actor="owner")
    assert reserved(ledger) == GAUSSIAN.divergence_nano  # it may have read rows
    with pytest.raises(WrongStatus, match="was revoked while run"):
        ledger.runs.settle(run.id, b"release", "d", "{}")
    assert ledger.runs.get(run.id).status is RunStatus.FAILED
    assert (reserved(ledger), ledger.budgets.balance("city").spent_nano) == (0, GAUSSIAN.divergence_nano)
    ledger.verify()


def test_a_new_version_closes_the_requests_on_the_one_before_and_lets_a_running_round_end(ledger: Ledger) -> None:
    request, waiting = approved(ledger), checked(ledger)
    run = ledger.runs.start(ledger.runs.admit(request, 1, "w", GAUSSIAN).id)
    ledger.datasets.publish(dataset("v2"), actor="owner")
    assert ledger.requests.get(request).status is RequestStatus.EXPIRED
    assert ledger.requests.get(waiting).status is RequestStatus.DENIED
    assert "Submit it again" in ledger.requests.comments(request)[-1].text
    ledger.runs.settle(run.id, b"release", "d", "{}")
    assert (reserved(ledger), ledger.budgets.balance("city").spent_nano) == (0, GAUSSIAN.divergence_nano)
    ledger.verify()
