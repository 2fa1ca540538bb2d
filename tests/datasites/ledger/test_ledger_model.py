"""Any order of steps against a model of a few lines: what the ledger refuses, charges and gives back."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from datasites.ledger.ledger import Ledger
from policies.errors import BudgetExceeded, RuleBroken, WrongStatus
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import NATS, START, Clock, approve, checked, new_ledger

GROUPS = (Patients.TRAINING, Patients.HELD_OUT)
ENDED = ("released", "failed")


@dataclass
class Asked:
    """The model of a request: its runs as [round, weights, status, id]."""

    charge: Charge
    rounds: int
    status: str = "checked"
    runs: list[list[object]] = field(default_factory=list)

    def count(self, *statuses: str) -> int:
        return sum(run[2] in statuses for run in self.runs)

    @property
    def held(self) -> int:
        """Reserved: all that has not ended, and once it is closed only what still runs."""
        if self.status == "approved":
            return (self.rounds - self.count(*ENDED)) * self.charge.divergence_nano
        return self.count("running") * self.charge.divergence_nano

    @property
    def used(self) -> int:
        return self.count(*ENDED) * self.charge.divergence_nano

    @property
    def counted(self) -> int:
        """Rounds that are held or used."""
        divergence = self.charge.divergence_nano
        return (self.held + self.used) // divergence


class LedgerMachine(RuleBasedStateMachine):
    """Researchers, owner and datasite in any order, with restarts in between."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.until = START + timedelta(days=30)
        self.ledger = new_ledger(self.directory / "ledger.db", self.clock)
        self.capacity = self.ledger.budgets.balance("city").capacity_nano
        self.requests: dict[str, Asked] = {}
        self.spent_before = self.other = self.other_pure = 0
        self.pick = 0

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            shutil.rmtree(self.directory)

    def of(self, group: Patients) -> list[Asked]:
        """Requests that are charged to the account of a group."""
        return [asked for asked in self.requests.values() if asked.charge.reads in (group, Patients.ALL)]

    def left(self, group: Patients) -> int:
        return self.capacity - self.other - sum(asked.held + asked.used for asked in self.of(group))

    def pure_left(self, group: Patients) -> int:
        """ε that is left while all releases are pure; nothing once one is not."""
        counted = [(asked.charge.pure_epsilon_nano, asked.counted) for asked in self.of(group) if asked.counted]
        if any(pure is None for pure, _ in counted):
            return 0
        used = self.other_pure + sum(int(pure or 0) * rounds for pure, rounds in counted)
        return int(self.ledger.budgets.balance("city").budget.epsilon * NATS) - used

    def fits(self, charge: Charge, rounds: int = 1) -> bool:
        return all(
            rounds * charge.divergence_nano <= self.left(group)
            or (charge.pure_epsilon_nano is not None and rounds * charge.pure_epsilon_nano <= self.pure_left(group))
            for group in GROUPS
            if charge.reads in (group, Patients.ALL)
        )

    def some(self, index: int) -> tuple[str, Asked]:
        return list(self.requests.items())[index % len(self.requests)]

    @precondition(lambda self: len(self.requests) < 4)
    @rule(
        nats=st.sampled_from([0.01, 0.3, 1.7, 4.9]),
        rounds=st.integers(1, 4),
        pure=st.booleans(),
        who=st.integers(0, 2),
        reads=st.sampled_from(Patients),
        at_once=st.booleans(),
    )
    def ask(self, nats: float, rounds: int, pure: bool, who: int, reads: Patients, at_once: bool) -> None:
        charge = Charge(int(nats * NATS), int(nats * 1.2 * NATS) if pure else None, reads=reads)
        request = checked(self.ledger, f"{who}@uni.example")
        self.requests[request] = Asked(charge, rounds)
        if at_once:
            self.approve(len(self.requests) - 1)

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 50))
    def approve(self, index: int) -> None:
        request, asked = self.some(index)
        if asked.status != "checked":
            with pytest.raises(WrongStatus):
                approve(self.ledger, request, asked.charge, asked.rounds, expires_at=self.until)
        elif not self.fits(asked.charge, asked.rounds):
            with pytest.raises(BudgetExceeded):
                approve(self.ledger, request, asked.charge, asked.rounds, expires_at=self.until)
        else:
            approve(self.ledger, request, asked.charge, asked.rounds, expires_at=self.until)
            asked.status = "approved"

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 50), round=st.integers(1, 4), weights=st.sampled_from(["w", "v"]))
    def admit(self, index: int, round: int, weights: str) -> None:
        request, asked = self.some(index)
        live = [run for run in asked.runs if run[0] == round and run[2] in ("reserved", "running", "released")]
        refused = bool(live) and live[0][1] != weights
        if not live:
            open_or_ended = asked.count("reserved", "running", *ENDED)
            refused = asked.status != "approved" or round > asked.rounds or open_or_ended >= asked.rounds
        if refused:
            with pytest.raises(WrongStatus):
                self.ledger.runs.admit(request, round, weights, asked.charge)
            return
        run = self.ledger.runs.admit(request, round, weights, asked.charge)
        assert [run.id] == [each[3] for each in live] or not live
        if not live:
            asked.runs.append([round, weights, "reserved", run.id])

    @precondition(lambda self: any(each.status == "approved" for each in self.requests.values()))
    @rule(index=st.integers(0, 50), weights=st.sampled_from(["w", "v"]), starts=st.booleans())
    def admit_next(self, index: int, weights: str, starts: bool) -> None:
        """The step that a well-behaved researcher takes, so that long lives are common."""
        approved = [number for number, asked in enumerate(self.requests.values()) if asked.status == "approved"]
        number = approved[index % len(approved)]
        asked = self.some(number)[1]
        taken = {run[0] for run in asked.runs if run[2] in ("reserved", "running", "released")}
        self.admit(number, min(set(range(1, 6)) - taken), weights)
        if starts and asked.runs and asked.runs[-1][2] == "reserved":
            self.ledger.runs.start(str(asked.runs[-1][3]))
            asked.runs[-1][2] = "running"

    @precondition(lambda self: any(each.runs for each in self.requests.values()))
    @rule(index=st.integers(0, 50), to=st.sampled_from(["running", "released", "failed", "void"]))
    def move_run(self, index: int, to: str) -> None:
        pairs = [(request, run) for request, asked in self.requests.items() for run in asked.runs]
        request, run = pairs[index % len(pairs)]
        asked, name = self.requests[request], str(run[3])
        move = {
            "running": lambda: self.ledger.runs.start(name),
            "released": lambda: self.ledger.runs.settle(name, name.encode(), f"digest of {name}", "{}"),
            "failed": lambda: self.ledger.runs.fail(name, "a reason"),
            "void": lambda: self.ledger.runs.void(name),
        }[to]
        allowed = {"reserved": ("running", "void"), "running": ("released", "failed")}.get(str(run[2]), ())
        if to not in allowed:
            with pytest.raises(WrongStatus):
                move()
            return
        if to == "released" and asked.status == "revoked":
            with pytest.raises(WrongStatus, match="Nothing is released"):
                move()
            to = "failed"
        else:
            move()
        run[2] = to
        self.complete(asked)

    def complete(self, asked: Asked) -> None:
        if asked.status == "approved" and asked.count(*ENDED) == asked.rounds:
            asked.status = "completed"

    @precondition(lambda self: self.requests)
    @rule(index=st.integers(0, 50), to=st.sampled_from(["withdrawn", "revoked", "expired", "denied"]))
    def close(self, index: int, to: str) -> None:
        request, asked = self.some(index)
        ways = {"checked": ("withdrawn", "denied"), "approved": ("withdrawn", "revoked", "expired")}
        if to not in ways.get(asked.status, ()):
            with pytest.raises(WrongStatus):
                self.ledger.transition(request, to, actor="someone")
            return
        self.ledger.transition(request, to, actor="someone")
        self.shut(asked, to)

    def shut(self, asked: Asked, to: str) -> None:
        asked.status = to
        for run in asked.runs:
            run[2] = "void" if run[2] == "reserved" else run[2]

    @rule(nats=st.sampled_from([0.02, 5.9]), fails=st.booleans())
    def charge_now(self, nats: float, fails: bool) -> None:
        charge = Charge(int(nats * NATS), int(1.01 * nats * NATS))
        details = {"dataset": "flu", "version": "v1", "actor": "owner", "what": "patient count"}
        if not self.fits(charge):
            with pytest.raises(BudgetExceeded):
                self.ledger.charge_now("city", charge, **details)
            return
        run = self.ledger.charge_now("city", charge, **details)
        self.ledger.runs.fail(run.id) if fails else self.ledger.runs.settle(run.id, b"", "d", "{}")
        self.other += charge.divergence_nano
        self.other_pure += int(charge.pure_epsilon_nano or 0)

    @rule(by=st.sampled_from([-0.5, 0.0, 0.5]))
    def raise_budget(self, by: float) -> None:
        budget = self.ledger.budgets.balance("city").budget
        new = PrivacyBudget(budget.epsilon + by, budget.delta)
        if by <= 0:
            with pytest.raises(RuleBroken):
                self.ledger.budgets.raise_budget("city", new)
            return
        self.ledger.budgets.raise_budget("city", new)
        self.capacity += int(by * NATS)

    @rule(days=st.sampled_from([0.5, 29.0]))
    def wait(self, days: float) -> None:
        self.clock.turn(days=days)
        self.ledger.expire_due()
        if self.clock.now >= self.until:
            self.until = self.clock.now + timedelta(days=30)  # of the approvals that come now
            for asked in self.requests.values():
                if asked.status == "approved":
                    self.shut(asked, "expired")

    @rule(crashed=st.booleans())
    def restart(self, crashed: bool) -> None:
        if not crashed:
            self.ledger.close()
        self.ledger = Ledger.open(self.directory / "ledger.db", clock=self.clock)
        self.ledger.recover()
        for asked in self.requests.values():
            for run in asked.runs:
                run[2] = {"reserved": "void", "running": "failed"}.get(str(run[2]), run[2])
            self.complete(asked)

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        balance = self.ledger.budgets.balance("city")
        assert balance.capacity_nano == self.capacity
        for group, spent, held in zip(GROUPS, balance.spent.accounts, balance.reserved.accounts, strict=True):
            assert spent.divergence_nano == self.other + sum(asked.used for asked in self.of(group))
            assert held.divergence_nano == sum(asked.held for asked in self.of(group))
            assert self.left(group) >= 0 or ((spent + held).mixed == 0 and self.pure_left(group) >= 0)
        assert balance.after_nano() <= balance.limit_nano
        assert balance.spent_nano >= self.spent_before
        self.spent_before = balance.spent_nano
        for request, asked in self.requests.items():
            assert self.ledger.requests.get(request).status is RequestStatus(asked.status)
        self.ledger.verify()

    @invariant()
    def nothing_is_released_without_an_entry(self) -> None:
        if hasattr(self, "ledger"):
            settled = {entry.run for entry in self.ledger.entries.list() if entry.kind == "settle"}
            assert {release.run for release in self.ledger.runs.releases()} == settled


_checks = [HealthCheck.too_slow, HealthCheck.data_too_large]


class TestLedgerKeepsItsPromises(LedgerMachine.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=_checks
    )


@pytest.mark.nightly
class TestLedgerKeepsItsPromisesLonger(LedgerMachine.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=2000, stateful_step_count=60, deadline=None, suppress_health_check=_checks)
