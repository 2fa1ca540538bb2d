"""The only judge: who may decide on a request, under which rules, and what a decision does.

Console, command line, PySyft's own `approve()` and the owner's policy file translate and ask here. A decision reads the
policy, the checks and the votes once, into one frozen `Case`; the functions that judge it are pure. What was decided is
written by the ledger, which checks status, plan, votes and budget again in the transaction that reserves the cost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from datasites.ledger.audit_log import AuditLog
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord, Vote
from datasites.ledger.years import YearlyPlan
from datasites.logs import Shown
from datasites.people.roles import Actor, Role
from datasites.review.planning import Planner
from datasites.review.policy import Outcome, Rules, outcomes, plans_outcome
from datasites.review.pricing import standalone_epsilon
from datasites.review.shared_noise import check_acceptance, shared_outcome
from policies.errors import DatasiteError, PermissionRefused, RuleBroken, WrongStatus
from policies.privacy import accountant
from policies.privacy.sharing import shared_of
from policies.release.plans import Plan, Published
from policies.source.statuses import STATUS_TEXT, Party, RequestStatus, Side
from policies.text import check_visible

logger = logging.getLogger(__name__)

APPROVED = "Approved; the whole cost is reserved in the ledger."
VOTED = "Your vote is kept, sealed. Nothing is approved until the other person has voted as well."
BY_POLICY = Actor("policy", Role.POLICY)
SIDES = {Role.OWNER: Side.OWNER, Role.SECOND_REVIEWER: Side.SECOND_REVIEWER}
"""Whose vote a role casts; the others have none."""
NO_VOICE = {
    Role.AUDITOR: "An auditor reads and does not decide.",
    Role.RESEARCHER: "Only the owner decides requests.",
}


@dataclass(frozen=True)
class Case:
    """All that a decision on one request looks at, read once.

    Args:
      actor: who decides.
      record: the request as the ledger has it.
      rules: the owner's policy; None where the file cannot be read, and then a check says so and fails.
      epsilon: of all its rounds alone at the population's δ, as it would be charged; None where it has no plan.
      checks: every check of its plan; none where it has no plan.
      votes: those that are cast; sealed until it is decided.
      acceptance: the actor's word for its shared noise, by which the lesser ε is charged; "" where none is given.
      epsilon_if_not: ε without that trust, by which it is judged who must agree; `epsilon` where no noise is shared.
    """

    actor: Actor
    record: CodeRequestRecord
    rules: Rules | None
    epsilon: float | None = None
    checks: tuple[Outcome, ...] = ()
    votes: tuple[Vote, ...] = ()
    acceptance: str = ""
    epsilon_if_not: float | None = None

    @property
    def _weighed(self) -> float | None:
        """ε by which it is judged who must agree: no word of anybody's makes it less."""
        return self.epsilon if self.epsilon_if_not is None else self.epsilon_if_not

    @property
    def voters(self) -> tuple[Side, ...]:
        """Whose votes an approval needs, where it needs two; else none: the owner's alone decides."""
        bound = self.rules.second_reviewer_epsilon if self.rules else None
        return tuple(Side) if bound is not None and self._weighed is not None and self._weighed > bound else ()

    @property
    def needs_typing(self) -> bool:
        """Whether a person who approves types the request's name."""
        bound = self.rules.typed_confirmation_epsilon if self.rules else 0.0
        return self._weighed is not None and self._weighed > bound

    @property
    def side(self) -> Side | None:
        """Whose vote the actor would cast."""
        return SIDES.get(self.actor.role)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Checks that do not pass."""
        return tuple(check for check in self.checks if not check.passed)


# -- the judgement: pure functions of a case ---------------------------------------------------------------------------


def check_may_approve(case: Case, *, plan_digest: str | None, typed: str) -> Side | None:
    """Raise unless the actor may approve now; the side to vote for where two people must agree, else None.

    Args:
      plan_digest: of the plan that the actor read; None where the door shows none (PySyft's).
      typed: the request's name as the actor typed it.

    Raises:
      PermissionRefused: the role has no say, or the policy does not approve this at once.
      WrongStatus: it is not waiting, its plan is another, or the owner alone decides on it.
      RuleBroken: a check fails, or the name is not typed.
    """
    check_has_voice(case.actor)
    record, name = case.record, case.record.id[:8]
    if record.status is not RequestStatus.CHECKED or case.epsilon is None:
        raise WrongStatus(f"Request {name} is {record.status}. {STATUS_TEXT[record.status]}")
    if plan_digest is not None and plan_digest != record.plan_digest:
        raise WrongStatus(f"Request {name} is no longer the one that you read. Read it again.")
    for check in case.failed:
        raise RuleBroken(f"{check.title}: {check.message}")
    if case.actor.role is Role.POLICY:
        _check_policy_approves(case)
        return None
    if case.needs_typing and typed.strip() != record.function:
        raise RuleBroken(
            f"Type the name of the request, {record.function}, to approve it: its ε is large. With a PySyft client:"
            f' request.approve(typed="{record.function}").'
        )
    if case.voters and case.acceptance:
        raise RuleBroken(
            f"Two people must agree on request {name}, and an acceptance of shared noise is one person's word. Vote"
            " without it, which charges what holds without trust."
        )
    if case.voters:
        return case.side
    if case.side is not Side.OWNER:
        raise WrongStatus(f"The owner alone decides on request {name}: its ε needs no second reviewer.")
    return None


def check_may_refuse(case: Case, to: RequestStatus) -> None:
    """Raise unless the actor may deny (or ask for changes to) the request now.

    Raises:
      PermissionRefused: the role has no say, or the policy does not deny this at once.
      WrongStatus: it is approved, or the owner alone decides on it.
    """
    check_has_voice(case.actor)
    name = case.record.id[:8]
    if case.actor.role is Role.POLICY:
        allowed = to is RequestStatus.DENIED and case.rules is not None and case.rules.deny_at_once
        if not (allowed and case.failed):
            raise PermissionRefused("The policy denies nothing at once that passes every check.")
    if case.actor.role is Role.SECOND_REVIEWER and not case.voters:
        raise WrongStatus(f"The owner alone decides on request {name}: it needs no second reviewer.")
    if to is RequestStatus.DENIED and case.record.status is RequestStatus.APPROVED:
        raise WrongStatus(f"Request {name} is approved already. `datasite revoke {name}` takes that back.")


def check_may_revoke(case: Case) -> None:
    """Raise `PermissionRefused` unless the actor may take an approval back: the owner alone."""
    check_has_voice(case.actor)
    if case.actor.role is not Role.OWNER:
        raise PermissionRefused("The owner alone revokes an approval.")


def may_decide(case: Case) -> bool:
    """Whether the actor's decision is asked for now."""
    return case.record.status is RequestStatus.CHECKED and (
        case.actor.role is Role.OWNER or (case.side is not None and case.side in case.voters)
    )


def check_has_voice(actor: Actor) -> None:
    """Raise `PermissionRefused` where a role has no say in any decision."""
    why = NO_VOICE.get(actor.role)
    if why is not None:
        raise PermissionRefused(why)


def _check_policy_approves(case: Case) -> None:
    bound = case.rules.approve_at_once_epsilon if case.rules else None
    if bound is None or case.epsilon is None or case.epsilon > bound or case.voters:
        raise PermissionRefused("The policy approves nothing of this ε at once; a person decides.")


# -- the decision: carried out in the ledger ---------------------------------------------------------------------------


class Decisions:
    """Judges and carries out decisions over one ledger.

    Args:
      read_rules: the owner's policy as it holds now.
      is_voter: whether somebody is a second reviewer now; by default, whoever voted is.
      changed: hears of each request whose status a decision changed: PySyft's own status follows.
    """

    def __init__(
        self,
        ledger: Ledger,
        planner: Planner,
        audit_log: AuditLog,
        read_rules: Callable[[], Rules],
        *,
        is_voter: Callable[[str], bool] = lambda email: True,
        changed: Callable[[CodeRequestRecord], None] = lambda record: None,
    ) -> None:
        self.ledger = ledger
        self.planner = planner
        self.audit_log = audit_log
        self.read_rules = read_rules
        self.is_voter = is_voter
        self.changed = changed
        self.host_checks: list[Callable[[], Outcome]] = []
        """Checks of the host beside those of the policy; the serving process adds what its jobs are held by."""

    def case(self, record: CodeRequestRecord, actor: Actor, *, acceptance: str = "") -> Case:
        """The case of a request as things stand, for whoever would decide on it.

        Args:
          acceptance: the actor's word for its shared noise, which `check_acceptance` has held.
        """
        rules, broken = self._rules()
        if record.plan is None:
            return Case(actor, record, rules, votes=self.ledger.requests.votes(record.id))
        published = self.planner.published(version=record.version)
        accepted = bool(acceptance)
        if_not = standalone_epsilon(self.ledger, record.plan, published.population)
        epsilon = standalone_epsilon(self.ledger, record.plan, published.population, accepted=accepted)
        checks = self._checks(rules, broken, record.plan, published, epsilon, record.researcher, accepted)
        checks += self._project_checks(record)
        votes = self.ledger.requests.votes(record.id)
        return Case(actor, record, rules, epsilon, checks, votes, acceptance, if_not)

    def checks(
        self, plan: Plan, published: Published, researcher: str, *, accepted: bool = False
    ) -> tuple[Outcome, ...]:
        """Every check of a plan, under the policy as it is now; as if its shared noise were `accepted`, or not."""
        rules, broken = self._rules()
        epsilon = standalone_epsilon(self.ledger, plan, published.population, accepted=accepted)
        return self._checks(rules, broken, plan, published, epsilon, researcher, accepted)

    def approve(
        self,
        record: CodeRequestRecord,
        actor: Actor,
        *,
        plan_digest: str | None = None,
        typed: str = "",
        acceptance: str = "",
    ) -> str:
        """Approve: the whole cost is reserved. Or vote, where two people must agree. What was done, in a sentence.

        Args:
          acceptance: digest of the sentence by which the actor accepts the request's shared noise; "" to accept none.

        Raises what `check_may_approve` and `check_acceptance` do, and `BudgetExceeded` where it does not fit: asked,
        left and short.
        """
        check_has_voice(actor)
        if acceptance:
            check_acceptance(record, acceptance)
        case = self.case(record, actor, acceptance=acceptance)
        side = check_may_approve(case, plan_digest=plan_digest, typed=typed)
        assert record.plan is not None
        assert case.rules is not None
        if side is not None:
            self.ledger.requests.vote(record.id, side=side, actor=actor.name, plan_digest=str(record.plan_digest))
            cast = self.ledger.requests.votes(record.id)
            if {vote.side for vote in cast} < set(case.voters):
                return VOTED
            self._check_voters(record, cast)
        try:
            approved = self._reserve(case, record.plan, case.rules)
        except WrongStatus:
            if side is None or self.ledger.requests.get(record.id).status is not RequestStatus.APPROVED:
                raise
            return APPROVED  # both voted in the same moment, and the other's vote has reserved it
        votes = self._opened_votes(record.id)
        self.audit_log.record(actor.name, "approve", record.id, plan_digest=record.plan_digest, **votes)
        if acceptance and (shared := shared_of(record.plan.mechanism)) is not None:
            self.audit_log.record(
                actor.name, "accept shared noise", record.id, acceptance=acceptance, sentence=shared.sentence()
            )
        self.changed(approved)
        return APPROVED

    def deny(self, record: CodeRequestRecord, actor: Actor, reason: str) -> None:
        """Deny a waiting request; the researcher reads the reason. Raises what `check_may_refuse` does."""
        check_may_refuse(self.case(record, actor), RequestStatus.DENIED)
        self._move(record, RequestStatus.DENIED, actor, reason)

    def ask_changes(self, record: CodeRequestRecord, actor: Actor, comment: str) -> None:
        """Ask for changes; the researcher reads the comment. Raises what `check_may_refuse` does."""
        check_may_refuse(self.case(record, actor), RequestStatus.CHANGES_REQUESTED)
        self._move(record, RequestStatus.CHANGES_REQUESTED, actor, comment)

    def revoke(self, record: CodeRequestRecord, actor: Actor, reason: str) -> None:
        """Take an approval back: running rounds end, and what no run touched returns to the budget."""
        check_may_revoke(self.case(record, actor))
        self._move(record, RequestStatus.REVOKED, actor, reason)

    def decide_at_once(self, record: CodeRequestRecord) -> None:
        """What the policy decides without anybody, both off by default. What it leaves waits for people."""
        try:
            case = self.case(record, BY_POLICY)
            if record.status is not RequestStatus.CHECKED or case.rules is None:
                return
            if case.failed and case.rules.deny_at_once:
                why = " ".join(f"{check.title}: {check.message}" for check in case.failed)
                self.deny(record, BY_POLICY, why)
            elif not case.failed and case.rules.approve_at_once_epsilon is not None:
                self.approve(record, BY_POLICY, plan_digest=record.plan_digest)
        except DatasiteError as error:
            facts = (Shown(record.id[:8]), Shown(type(error).__name__))
            logger.info("The policy decided nothing on request %s: %s", *facts)

    def _check_voters(self, record: CodeRequestRecord, votes: tuple[Vote, ...]) -> None:
        """Raise `WrongStatus` where a vote is of a second reviewer whose account is closed (or waits) by now."""
        for vote in votes:
            if vote.side is Side.SECOND_REVIEWER and not self.is_voter(vote.actor):
                raise WrongStatus(
                    f"The vote of the second reviewer, {vote.actor}, on request {record.id[:8]} does not count: that"
                    " account is closed. Open it again, or ask for changes, so that the request is submitted anew."
                )

    def _reserve(self, case: Case, plan: Plan, rules: Rules) -> CodeRequestRecord:
        record = case.record
        balance = self.ledger.budgets.balance(str(record.population))
        return self.ledger.approve(
            record.id,
            actor=case.actor.name,
            plan_digest=str(record.plan_digest),
            charge=accountant.charge_for(plan.mechanism, balance.order, accepted=bool(case.acceptance)),
            rounds=plan.rounds,
            expires_at=datetime.now(UTC) + timedelta(days=rules.approval_days),
            researcher_epsilon=rules.researcher_epsilon,
            plan=rules.yearly_plans.get(str(record.population)),
            voters=case.voters,
            acceptance=case.acceptance or None,
        )

    def _move(self, record: CodeRequestRecord, to: RequestStatus, actor: Actor, comment: str) -> None:
        comment = comment.replace("\r\n", "\n")  # as browsers send it
        check_visible(comment, "The comment")
        moved = self.ledger.transition(record.id, to, actor=actor.name, comment=comment, party=Party.OWNER)
        self.audit_log.record(actor.name, to.value, record.id, **self._opened_votes(record.id))
        self.changed(moved)

    def _opened_votes(self, request: str) -> dict[str, Any]:
        """The votes on a request that is decided, for the log."""
        votes = [
            {"who": vote.actor, "side": vote.side.value, "at": vote.at} for vote in self.ledger.requests.votes(request)
        ]
        return {"votes": votes} if votes else {}

    def _project_checks(self, record: CodeRequestRecord) -> tuple[Outcome, ...]:
        """Whether the project of a request goes on; none where it is filed under none. Who cannot tell says no."""
        try:
            project, now = self.ledger.projects.of(record.id), self.ledger.projects.now()
        except DatasiteError as error:
            return (Outcome("Project", False, error.public_message),)
        if project is None:
            return ()
        if project.has_ended(now):
            return (Outcome("Project", False, project.why_ended),)
        return (Outcome("Project", True, f"{project.name} goes on until {project.ends}"),)

    def yearly_plan(self, population: str) -> YearlyPlan | None:
        """The policy's yearly plan of a population; none where the policy cannot be read, and nothing is approved."""
        rules, _ = self._rules()
        return None if rules is None else rules.yearly_plans.get(population)

    def _rules(self) -> tuple[Rules | None, str]:
        """The policy, or None and why it cannot be used: then a check fails, and nothing is approved."""
        try:
            return self.read_rules(), ""
        except RuleBroken as error:
            return None, error.public_message

    def _checks(
        self,
        rules: Rules | None,
        broken: str,
        plan: Plan,
        published: Published,
        epsilon: float,
        researcher: str,
        accepted: bool,
    ) -> tuple[Outcome, ...]:
        of_policy = (
            (Outcome("Policy", False, broken),)
            if rules is None
            else outcomes(rules, plan, published, epsilon, researcher)
        )
        of_plans = rules and plans_outcome(rules, self.ledger.budgets.populations())
        of_noise = rules and shared_outcome(rules, plan.mechanism, accepted=accepted)
        return (
            Outcome("Inspection", True, "only allowed forms; rows reach the mechanism alone"),
            Outcome("Model check", True, _model_text(plan)),
            *of_policy,
            *([of_plans] if of_plans else []),
            *([of_noise] if of_noise else []),
            *(check() for check in self.host_checks),
        )


def _model_text(plan: Plan) -> str:
    if plan.graph is None:
        return "there is no model"
    return f"{len(plan.graph.nodes)} operators, all of them allowed; it sees one record at a time"
