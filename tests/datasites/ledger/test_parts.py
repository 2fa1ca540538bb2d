"""Parts of a budget that are kept for projects: who draws on them, what others are left, and how they end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from datasites.ledger.admission import Asked
from datasites.ledger.amounts import Amount, Charged
from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from datasites.ledger.years import YearlyPlan
from policies.errors import BudgetExceeded, DatasiteError, InvalidRequest, LedgerDamaged, WrongStatus
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    NATS,
    ORDER,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    new_ledger,
    released,
)

ADA, EVE = "ada@uni.example", "eve@uni.example"
ENDS = "2026-06-30"
PURE = Charge(divergence_nano=97 * NATS // 100, pure_epsilon_nano=NATS)
TRAINING = Charge(divergence_nano=NATS, pure_epsilon_nano=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """ε = 6, of which 5.4818 are there for divergence at order 16; Ada is of the project Flu, and Eve of none."""
    with new_ledger(tmp_path / "ledger.db", clock) as made:
        made.projects.make("Flu", "General", ENDS)
        yield made


def ask(ledger: Ledger, who: str, charge: Charge = TRAINING, rounds: int = 1, project: str = "") -> str:
    """The id of an approved request."""
    request = checked(ledger, who)
    if project:
        ledger.projects.file(request, project)
    approve(ledger, request, charge, rounds)
    return request


def keep(ledger: Ledger, epsilon: float = 2.0, **options: object) -> None:
    ledger.parts.keep("Flu", "city", epsilon, (ADA,), actor="owner", **options)  # type: ignore[arg-type]


def left(ledger: Ledger) -> float:
    (part,) = ledger.parts.list("city")
    return part.kept.epsilon_left


def test_others_cannot_use_what_is_kept_and_its_project_uses_it_first(ledger: Ledger) -> None:
    keep(ledger)
    before = ledger.budgets.balance("city")
    assert before.epsilon_remaining == before.epsilon_remaining_with_training == pytest.approx(3.4818, abs=1e-4)
    ask(ledger, EVE, rounds=3)
    with pytest.raises(BudgetExceeded, match=r"ε=0\.4818 remains .* with what is reserved for projects, ε=2\.0000"):
        ask(ledger, EVE)
    for number in (1, 2):
        ask(ledger, ADA, project="Flu")
        assert (left(ledger), ledger.budgets.balance("city").epsilon_remaining) == (
            2.0 - number,
            pytest.approx(0.4818, abs=1e-4),
        )
    with pytest.raises(BudgetExceeded):
        ask(ledger, ADA, project="Flu")
    ask(ledger, ADA, Charge(NATS // 10, None), project="Flu")  # beyond its part, from what all share
    assert ledger.budgets.balance("city").epsilon_remaining == pytest.approx(0.3818, abs=1e-4)
    ledger.verify()


def test_a_request_may_be_larger_than_its_part(ledger: Ledger) -> None:
    keep(ledger)
    ask(ledger, ADA, rounds=5, project="Flu")
    assert left(ledger) == 0.0
    assert ledger.budgets.balance("city").epsilon_remaining == pytest.approx(0.4818, abs=1e-4)


def test_what_is_kept_for_training_is_there_for_it_whatever_others_were_given(ledger: Ledger) -> None:
    """Pure releases are counted by divergence while a part is kept for training, or it could not train any more."""
    keep(ledger)
    with pytest.raises(BudgetExceeded):
        ask(ledger, EVE, PURE, rounds=4)  # 4 and 2 are 6, but with δ turned into ε it is 6.4
    ask(ledger, EVE, PURE, rounds=3)
    ask(ledger, ADA, rounds=2, project="Flu")
    ledger.verify()


def test_a_part_that_is_kept_for_pure_releases_leaves_others_their_sum(ledger: Ledger) -> None:
    keep(ledger, with_training=False)
    ask(ledger, EVE, PURE, rounds=4)
    with pytest.raises(BudgetExceeded):
        ask(ledger, ADA, Charge(NATS // 100, None), project="Flu")  # training does not draw on it
    ask(ledger, ADA, PURE, rounds=2, project="Flu")
    assert (left(ledger), ledger.budgets.balance("city").epsilon_remaining) == (0.0, 0.0)
    ledger.verify()


@pytest.mark.parametrize(
    ("who", "project"),
    [(EVE, "Flu"), (EVE, ""), (ADA, ""), (ADA, "Sepsis"), ("Ada@uni.example", "Flu"), ("ada@uni.example ", "Flu")],
)
def test_who_is_not_named_or_not_filed_draws_on_nothing(ledger: Ledger, who: str, project: str) -> None:
    """Naming a project is not enough, nor is having been of it: both the owner's list and the filing count."""
    ledger.projects.make("Sepsis", "General", ENDS)
    keep(ledger, 5.0)
    with pytest.raises(BudgetExceeded, match="reserved for projects"):
        ask(ledger, who, project=project)
    assert left(ledger) == 5.0
    ask(ledger, ADA, project="Flu")


def test_a_request_that_is_moved_out_of_its_project_draws_no_more(ledger: Ledger) -> None:
    ledger.projects.make("Sepsis", "General", ENDS)
    keep(ledger, 5.0)
    request = checked(ledger, ADA)
    ledger.projects.file(request, "Flu")
    ledger.projects.file(request, "Sepsis")
    with pytest.raises(BudgetExceeded):
        approve(ledger, request, TRAINING, 1)


def test_what_is_given_back_returns_to_the_part_even_after_the_request_was_moved(ledger: Ledger) -> None:
    """Else a project would lose what its request had not used, to whoever asks next."""
    ledger.projects.make("Sepsis", "General", ENDS)
    keep(ledger)
    request = ask(ledger, ADA, rounds=2, project="Flu")
    released(ledger, request, 1, TRAINING)
    ledger.projects.file(request, "Sepsis")
    ledger.transition(request, RequestStatus.WITHDRAWN, actor=ADA)
    assert left(ledger) == 1.0
    ledger.verify()


def test_splitting_and_withdrawing_gain_nothing(ledger: Ledger) -> None:
    """Twenty small requests of a stranger, half of them withdrawn and asked again, come to what one could be."""
    keep(ledger, 5.0)
    small = Charge(NATS // 20, None)
    for number in range(40):
        try:
            request = ask(ledger, EVE, small, project="Flu" if number % 2 else "")
        except BudgetExceeded:
            break
        if number % 3 == 0:
            ledger.transition(request, RequestStatus.WITHDRAWN, actor=EVE)
    balance = ledger.budgets.balance("city")
    assert balance.reserved.divergence_nano <= balance.capacity_nano - 5 * NATS
    assert left(ledger) == 5.0


@pytest.mark.parametrize("how", ["freed", "closed", "over", "shortened"])
def test_a_part_ends_with_its_project_or_when_the_owner_says_so(ledger: Ledger, clock: Clock, how: str) -> None:
    keep(ledger, 5.0)
    drawn = ask(ledger, ADA, rounds=2, project="Flu")
    released(ledger, drawn, 1, TRAINING)
    if how == "freed":
        ledger.parts.free("Flu", "city", actor="owner")
    elif how == "closed":
        ledger.projects.close("Flu")
    elif how == "over":
        clock.turn(days=200)
    else:
        ledger.projects.change("Flu", parties="General", ends="2025-12-31")
    assert ledger.parts.list("city") == ()  # at once, before anything has written of it
    ledger.expire_due()
    assert [entry.details["epsilon"] for entry in ledger.entries.list() if entry.kind is EntryKind.PART] == [
        "5.0",
        None,
    ]
    request = checked(ledger, EVE)
    approve(ledger, request, TRAINING, 3, expires_at=clock.now + timedelta(days=9))
    ledger.verify()


def test_a_day_that_is_moved_after_the_end_brings_no_part_back(ledger: Ledger, clock: Clock) -> None:
    keep(ledger, 5.0)
    clock.turn(days=200)
    approve(ledger, checked(ledger, EVE), TRAINING, 5, expires_at=clock.now + timedelta(days=9))
    ledger.projects.change("Flu", parties="General", ends="2027-06-30")
    assert ledger.parts.list("city") == ()
    ledger.verify()


def test_a_part_is_changed_in_all_and_keeps_what_was_drawn(ledger: Ledger) -> None:
    keep(ledger, 2.0)
    ask(ledger, ADA, project="Flu")
    keep(ledger, 3.0)
    assert left(ledger) == 2.0
    keep(ledger, 0.5)
    assert left(ledger) == 0.0
    with pytest.raises(BudgetExceeded, match=r"ε=9 cannot be reserved of population 'city': ε=4\.4818 is left"):
        keep(ledger, 9.0)
    ledger.parts.free("Flu", "city", actor="owner")
    with pytest.raises(InvalidRequest, match="Nothing of the budget of 'city' is reserved for the project Flu"):
        ledger.parts.free("Flu", "city", actor="owner")
    keep(ledger, 1.0)
    assert left(ledger) == 1.0  # another part, of which nothing is drawn
    ledger.verify()


def test_no_more_is_kept_than_is_left(ledger: Ledger) -> None:
    ask(ledger, EVE, rounds=4)
    with pytest.raises(BudgetExceeded) as caught:
        keep(ledger, 1.5)
    assert caught.value.remaining == pytest.approx(1.4818, abs=1e-4)
    keep(ledger, 1.4)
    ledger.projects.make("Sepsis", "General", ENDS)
    with pytest.raises(BudgetExceeded):
        ledger.parts.keep("Sepsis", "city", 0.1, (EVE,), actor="owner")


@pytest.mark.parametrize(
    ("project", "population", "epsilon", "who", "error"),
    [
        ("Flu", "city", 0.0, (ADA,), InvalidRequest),
        ("Flu", "city", float("nan"), (ADA,), InvalidRequest),
        ("Flu", "city", 101.0, (ADA,), InvalidRequest),
        ("Flu", "city", 1.0, (), InvalidRequest),
        ("Cold", "city", 1.0, (ADA,), InvalidRequest),
        ("Flu", "county", 1.0, (ADA,), InvalidRequest),
        ("Closed", "city", 1.0, (ADA,), WrongStatus),
    ],
)
def test_what_cannot_be_kept_is_refused(
    ledger: Ledger, project: str, population: str, epsilon: float, who: tuple[str, ...], error: type[DatasiteError]
) -> None:
    ledger.projects.make("Closed", "General", ENDS)
    ledger.projects.close("Closed")
    with pytest.raises(error):
        ledger.parts.keep(project, population, epsilon, who, actor="owner")
    assert not [entry for entry in ledger.entries.list() if entry.kind is EntryKind.PART]


def test_each_account_has_its_own_part(ledger: Ledger) -> None:
    ledger.budgets.create_population("county", BUDGET, ORDER)
    ledger.datasets.publish(dataset("h1", name="h", schema_json='{"holdout":0.2}', population="county"), actor="owner")
    ledger.parts.keep("Flu", "county", 2.0, (ADA,), actor="owner")

    def of_county(who: str, reads: Patients, nats: float) -> None:
        request = checked(ledger, who, population="county", version="h1")
        ledger.projects.file(request, "Flu")
        approve(ledger, request, Charge(int(nats * NATS), None, reads=reads), 1)

    of_county(ADA, Patients.TRAINING, 2.0)
    of_county(EVE, Patients.TRAINING, 3.4)
    with pytest.raises(BudgetExceeded, match="patients held out"):
        of_county(EVE, Patients.HELD_OUT, 3.6)
    of_county(EVE, Patients.HELD_OUT, 3.4)
    of_county(ADA, Patients.HELD_OUT, 2.0)
    ledger.verify()


def test_the_datasites_own_counts_use_what_all_share(ledger: Ledger) -> None:
    keep(ledger, 5.0)
    with pytest.raises(BudgetExceeded):
        ledger.charge_now("city", PURE, dataset="flu", version="v2", actor=ADA, what="count")


def test_a_restored_ledger_keeps_nothing_for_anybody_until_it_is_accepted(ledger: Ledger) -> None:
    ledger.recovery.mark_restored(actor="owner")
    with pytest.raises(WrongStatus, match="restored"):
        keep(ledger)


def test_an_older_copy_gives_back_what_its_approvals_had_drawn_and_is_charged_all_the_same(
    tmp_path: Path, ledger: Ledger, clock: Clock
) -> None:
    keep(ledger, 2.0)
    ask(ledger, ADA, rounds=2, project="Flu")
    ledger.backup(tmp_path / "copy.db")
    with Ledger.open(tmp_path / "copy.db", clock=clock) as copy:
        copy.recovery.mark_restored(actor="owner")
        copy.recovery.accept_older(actor="owner", spent={"city": 4.5})
        copy.verify()
        assert left(copy) == 2.0
        # What was lost leaves 0.98, and 2 are reserved: nobody is admitted until less is, and then the project alone.
        with pytest.raises(BudgetExceeded):
            ask(copy, EVE, Charge(NATS // 100, None))
        with pytest.raises(BudgetExceeded, match=r"ε=1\.0182 short"):
            ask(copy, ADA, project="Flu")
        keep(copy, 0.9)
        with pytest.raises(BudgetExceeded):
            ask(copy, EVE, Charge(NATS // 10, None))
        ask(copy, ADA, Charge(4 * NATS // 10, None), project="Flu")
        copy.verify()


def test_a_budget_that_is_raised_is_there_for_all(ledger: Ledger) -> None:
    keep(ledger, 5.0)
    ledger.budgets.raise_budget("city", PrivacyBudget(8.0, 1e-5))
    ask(ledger, EVE, rounds=2)
    assert left(ledger) == 5.0
    ledger.verify()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE parts SET epsilon = 5.0",
        "UPDATE parts SET researchers = '[\"eve@uni.example\"]'",
        "UPDATE parts SET training_divergence_nano = 0",
        "UPDATE parts SET ended_at = '2026'",
        "UPDATE parts SET with_training = 0",
        "DELETE FROM parts",
        "DROP TRIGGER drawn_not_deleted",
    ],
)
def test_a_table_that_does_not_follow_from_the_entries_is_found(ledger: Ledger, sql: str) -> None:
    keep(ledger)
    approved(ledger)
    if "DELETE" not in sql:
        ask(ledger, ADA, project="Flu")
    ledger.verify()
    with ledger.store.writing() as db:
        db.execute(sql)
    with pytest.raises(LedgerDamaged):
        ledger.verify()


def test_an_entry_that_takes_from_anothers_part_is_found(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(ledger, 5.0)
    monkeypatch.setattr("datasites.ledger.kept.may_draw", lambda *_: True)
    ask(ledger, EVE, project="Flu")
    with pytest.raises(LedgerDamaged, match="kept for others"):
        ledger.verify()


def test_an_entry_that_uses_what_is_kept_is_found(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(ledger, 5.0)
    monkeypatch.setattr("datasites.ledger.admission.Standing.balance_for", lambda standing, *_: standing.balance)
    ask(ledger, EVE)
    with pytest.raises(LedgerDamaged, match="kept of it for a project"):
        ledger.verify()


# -- any order of steps -----------------------------------------------------------------------------------------------

PEOPLE = {"Flu": ADA, "Sepsis": "sam@uni.example"}
PLAN = YearlyPlan(2.5)


GROUPS = (Patients.TRAINING, Patients.HELD_OUT)


@dataclass
class Given:
    """The model of an approval: its charge, its rounds, and how many of them were released."""

    charge: Charge
    rounds: int
    released: int = 0
    is_open: bool = True

    @property
    def counted(self) -> int:
        return self.rounds if self.is_open else self.released


class PlansMachine(RuleBasedStateMachine):
    """Owners who keep and free, researchers who ask under any project, cancellations, turning years and clocks."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.ledger = new_ledger(self.directory / "ledger.db", self.clock)
        for name in PEOPLE:
            self.ledger.projects.make(name, "General", "2100-12-31")
        self.given: dict[str, Given] = {}
        self.conversion = self.ledger.budgets.balance("city").conversion_nano
        self.opened = {2026: dict.fromkeys(GROUPS, 0)}

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            shutil.rmtree(self.directory)

    def epsilon(self, group: Patients, *, spent: bool) -> int:
        """ε in nano-nats of what a group's patients have spent, or have spent and reserved, by the book."""
        counted = [
            (given.charge, given.released if spent else given.counted)
            for given in self.given.values()
            if given.charge.reads in (group, Patients.ALL)
        ]
        counted = [(charge, times) for charge, times in counted if times]
        filtered = sum(charge.divergence_nano * times for charge, times in counted) + self.conversion
        if any(charge.pure_epsilon_nano is None for charge, _ in counted):
            return filtered
        return min(filtered, sum(int(charge.pure_epsilon_nano or 0) * times for charge, times in counted))

    @rule(
        project=st.sampled_from(["Flu", "Sepsis"]), nats=st.sampled_from([0.4, 1.0, 2.0, 5.0]), training=st.booleans()
    )
    def keep(self, project: str, nats: float, training: bool) -> None:
        try:
            self.ledger.parts.keep(project, "city", nats, (PEOPLE[project],), with_training=training, actor="owner")
        except BudgetExceeded:
            return

    @rule(project=st.sampled_from(["Flu", "Sepsis"]))
    def free(self, project: str) -> None:
        try:
            self.ledger.parts.free(project, "city", actor="owner")
        except InvalidRequest:
            return

    @rule(
        who=st.sampled_from([*PEOPLE.values(), EVE]),
        project=st.sampled_from(["", "Flu", "Sepsis"]),
        nats=st.sampled_from([0.05, 0.3, 0.9]),
        rounds=st.integers(1, 3),
        pure=st.booleans(),
        reads=st.sampled_from(Patients),
    )
    def ask(self, who: str, project: str, nats: float, rounds: int, pure: bool, reads: Patients) -> None:
        charge = Charge(int(nats * NATS), int(1.1 * nats * NATS) if pure else None, reads=reads)
        request = checked(self.ledger, who)
        if project:
            self.ledger.projects.file(request, project)
        others = {part.id: part.kept for part in self.ledger.parts.list("city") if PEOPLE[part.project_name] != who}
        until = datetime.fromisoformat(self.ledger.store.now()) + timedelta(days=30)
        try:
            approve(self.ledger, request, charge, rounds, plan=PLAN, expires_at=until)
        except BudgetExceeded:
            return
        self.given[request] = Given(charge, rounds)
        for part in self.ledger.parts.list("city"):
            assert part.id not in others or part.kept == others[part.id]  # nobody draws on another's
        year = int(self.ledger.store.now()[:4])
        for group in GROUPS:
            if charge.reads in (group, Patients.ALL):
                assert self.epsilon(group, spent=False) - self.opened[year][group] <= PLAN.epsilon * NATS

    @precondition(lambda self: any(given.is_open for given in self.given.values()))
    @rule(index=st.integers(0, 50))
    def run(self, index: int) -> None:
        names = [name for name, given in self.given.items() if given.is_open]
        name = names[index % len(names)]
        given = self.given[name]
        released(self.ledger, name, given.released + 1, given.charge)
        given.released += 1
        given.is_open = given.released < given.rounds

    @precondition(lambda self: any(given.is_open for given in self.given.values()))
    @rule(index=st.integers(0, 50), to=st.sampled_from(["withdrawn", "revoked", "expired"]), moved=st.booleans())
    def cancel(self, index: int, to: str, moved: bool) -> None:
        names = [name for name, given in self.given.items() if given.is_open]
        name = names[index % len(names)]
        if moved:
            self.ledger.projects.file(name, "Sepsis")
        self.ledger.transition(name, to, actor="someone")
        self.given[name].is_open = False

    @rule(days=st.sampled_from([-400, -1, 1, 20, 400]))
    def turn(self, days: int) -> None:
        self.clock.turn(days=days)
        self.ledger.expire_due()
        for name, given in self.given.items():
            given.is_open = self.ledger.requests.get(name).status is RequestStatus.APPROVED
        self.open_years()

    def open_years(self) -> None:
        year = int(self.ledger.store.now()[:4])
        if year not in self.opened:
            self.opened[year] = {group: self.epsilon(group, spent=True) for group in GROUPS}

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.directory / "ledger.db", clock=self.clock)

    @invariant()
    def nothing_is_exceeded(self) -> None:
        if not hasattr(self, "ledger"):
            return
        balance = self.ledger.budgets.balance("city")
        assert balance.after_nano() <= balance.limit_nano
        for group, account in zip(GROUPS, balance.used.accounts, strict=True):
            assert account.epsilon_nano(self.conversion) == self.epsilon(group, spent=False) <= 6 * NATS
        self.ledger.verify()

    @invariant()
    def what_is_kept_is_there_for_its_project(self) -> None:
        """As far as the total goes: what is left of a part can be approved, by itself and along with all the others."""
        if not hasattr(self, "ledger"):
            return
        standing = self.ledger.budgets.standing("city")
        for part in self.ledger.parts.list("city"):
            account = part.kept.left().training
            if part.kept.with_training:
                asked = Amount(account.divergence_nano, 0, 1)
            else:
                asked = Amount(min(account.divergence_nano, account.pure_nano), account.pure_nano, 0)
            if not any((asked.divergence_nano, asked.pure_nano)):
                continue
            total = Charged.to(Patients.TRAINING, asked)
            mine = Asked(total, PEOPLE[part.project_name], part.id)
            assert standing.holds(mine)
            standing = standing.after(mine)


_checks = [HealthCheck.too_slow, HealthCheck.data_too_large]


class TestPlansAreKept(PlansMachine.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=_checks
    )


@pytest.mark.nightly
class TestPlansAreKeptLonger(PlansMachine.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=1000, stateful_step_count=50, deadline=None, suppress_health_check=_checks)
