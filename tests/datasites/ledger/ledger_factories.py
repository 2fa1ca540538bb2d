"""Ledgers and requests in the state that a test needs, in one call."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from datasites.ledger.database import Place
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord, DatasetRecord, Run
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.source.statuses import RequestStatus
from tests.policies.plan_factories import plan_of, statistics
from tests.postgres import Emptied

BUDGET = PrivacyBudget(6.0, 1e-5)
ORDER = 16
START = datetime(2026, 1, 1, tzinfo=UTC)
NATS = 1_000_000_000  # in nano-nats
GAUSSIAN = Charge(divergence_nano=NATS // 10, pure_epsilon_nano=None)
LAPLACE = Charge(divergence_nano=NATS // 20, pure_epsilon_nano=NATS // 5)
PLAN = plan_of(statistics())
_ids = itertools.count(1)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)


def new_ledger(place: Place, clock: Clock | None = None, *, busy_seconds: float = 10.0) -> Ledger:
    """A ledger with population `city` (ε=6 at δ=1e-5, order 16) and dataset `flu`, version `v1`."""
    make = Ledger.open if isinstance(place, Emptied) else Ledger.create
    ledger = make(place, clock=clock or Clock(), busy_seconds=busy_seconds)
    ledger.budgets.create_population("city", BUDGET, ORDER)
    ledger.datasets.publish(dataset(), actor="owner")
    return ledger


def dataset(version: str = "v1", **fields: object) -> DatasetRecord:
    """A dataset version of `city`, as published."""
    facts: dict[str, object] = {"schema_json": "{}", "patients": 1000, "size_kind": "declared"} | fields
    return DatasetRecord(**{"name": "flu", "version": version, "population": "city", **facts})  # type: ignore[arg-type]


def submitted(ledger: Ledger, researcher: str = "rita@uni.example", **fields: object) -> str:
    """The id of a request that was just submitted."""
    facts: dict[str, object] = {"id": f"request-{next(_ids)}", "population": "city", "version": "v1", **fields}
    record = CodeRequestRecord(
        function="flu_2026", researcher=researcher, dataset="flu", source="def flu_2026(): ...", **facts  # type: ignore[arg-type]
    )  # fmt: skip
    return ledger.requests.submit(record).id


def checked(ledger: Ledger, researcher: str = "rita@uni.example", **fields: object) -> str:
    """The id of a request that waits for the owner, with the plan `PLAN`."""
    request = submitted(ledger, researcher, **fields)
    ledger.requests.check(request, PLAN)
    return request


def approve(ledger: Ledger, request: str, charge: Charge = GAUSSIAN, rounds: int = 3, **options: object) -> None:
    """Approve a checked request for 30 days of 2026."""
    options = {"expires_at": START + timedelta(days=30), **options}
    ledger.approve(request, actor="owner", plan_digest=PLAN.digest, charge=charge, rounds=rounds, **options)  # type: ignore[arg-type]


def approved(ledger: Ledger, charge: Charge = GAUSSIAN, rounds: int = 3, **fields: object) -> str:
    """The id of an approved request."""
    request = checked(ledger, **fields)  # type: ignore[arg-type]
    approve(ledger, request, charge, rounds)
    return request


def running(ledger: Ledger, request: str, round: int = 1, charge: Charge = GAUSSIAN, weights: str = "w") -> Run:
    """A run of `request` that has begun to read private rows."""
    return ledger.runs.start(ledger.runs.admit(request, round, weights, charge).id)


def released(ledger: Ledger, request: str, round: int = 1, charge: Charge = GAUSSIAN, weights: str = "w") -> Run:
    """A run of `request` with its release stored."""
    run = running(ledger, request, round, charge, weights)
    ledger.runs.settle(run.id, f"release {round}".encode(), f"digest-{round}", '{"certificate": true}')
    return ledger.runs.get(run.id)


def in_status(ledger: Ledger, status: RequestStatus) -> str:
    """The id of a request in `status`, by the way that leads there."""
    if status is RequestStatus.SUBMITTED:
        return submitted(ledger)
    if status in (RequestStatus.CHECKED, RequestStatus.DENIED, RequestStatus.CHANGES_REQUESTED):
        request = checked(ledger)
        if status is not RequestStatus.CHECKED:
            ledger.transition(request, status, actor="owner")
        return request
    request = approved(ledger, rounds=1)
    if status is RequestStatus.COMPLETED:
        released(ledger, request)
    elif status is not RequestStatus.APPROVED:
        ledger.transition(request, status, actor="someone")
    return request


def nano_left(ledger: Ledger, population: str = "city") -> int:
    """Capacity that is neither spent nor reserved."""
    balance = ledger.budgets.balance(population)
    return balance.capacity_nano - balance.spent_nano - balance.reserved_nano


def each_pair() -> list[tuple[RequestStatus, RequestStatus]]:
    """Every pair of request statuses."""
    return list(itertools.product(RequestStatus, RequestStatus))
