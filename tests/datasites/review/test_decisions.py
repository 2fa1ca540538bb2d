"""The judge, all of it: role × door × status × policy × what is asked, against a table that is written out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from syft.service.user.user_roles import ServiceRole
from syft.types.uid import UID

from datasites.door.syft import services
from datasites.door.syft.guard import Refused
from datasites.ledger.records import CodeRequestRecord
from datasites.people.roles import Actor, Role, role_named
from datasites.review.decisions import (
    APPROVED,
    BY_POLICY,
    VOTED,
    Case,
    check_may_approve,
    check_may_refuse,
    check_may_revoke,
    may_decide,
)
from datasites.review.policy import Outcome, Rules
from datasites.serve import act_as_owner
from policies.errors import DatasiteError, PermissionRefused, RuleBroken, WrongStatus
from policies.source.statuses import RequestStatus, Side
from tests.browser.desk import EMAILS, Browser, Desk
from tests.policies.plan_factories import plan_of, statistics

NAME = "flu_counts"
EPSILON = 0.2  # of the request
RECORD = CodeRequestRecord(
    id="1" * 32, function=NAME, researcher="ada@university.example", dataset="flu", version="v1",
    population="patients", source="", plan_digest="d" * 64,
)  # fmt: skip
FINE, BAD = (Outcome("Noise", True, "enough"),), (Outcome("Noise", False, "too little"),)

# -- the judgement -----------------------------------------------------------------------------------------------------

POLICIES: dict[str, tuple[Rules | None, tuple[Outcome, ...]]] = {
    "plain": (Rules(), FINE),
    "typed": (Rules(typed_confirmation_epsilon=0.1), FINE),
    "two people": (Rules(second_reviewer_epsilon=0.1), FINE),
    "two people, typed": (Rules(second_reviewer_epsilon=0.1, typed_confirmation_epsilon=0.1), FINE),
    "check fails": (Rules(), BAD),
    "check fails, denied at once": (Rules(deny_at_once=True), BAD),
    "small is approved at once": (Rules(approve_at_once_epsilon=0.3), FINE),
    "smaller is approved at once": (Rules(approve_at_once_epsilon=0.1), FINE),
    "at once, yet two people": (Rules(approve_at_once_epsilon=0.3, second_reviewer_epsilon=0.1), FINE),
    "unreadable": (None, (Outcome("Policy", False, "cannot be used"),)),
}

W, R, A, S, P = Role.OWNER, Role.SECOND_REVIEWER, Role.AUDITOR, Role.RESEARCHER, Role.POLICY

# What an approval comes to while a request waits, its name typed: "approve", a side's vote, or what is raised.
APPROVALS: dict[str, dict[Role, Any]] = {
    "plain": {W: "approve", R: WrongStatus, P: PermissionRefused},
    "typed": {W: "approve", R: WrongStatus, P: PermissionRefused},
    "two people": {W: Side.OWNER, R: Side.SECOND_REVIEWER, P: PermissionRefused},
    "two people, typed": {W: Side.OWNER, R: Side.SECOND_REVIEWER, P: PermissionRefused},
    "check fails": {W: RuleBroken, R: RuleBroken, P: RuleBroken},
    "check fails, denied at once": {W: RuleBroken, R: RuleBroken, P: RuleBroken},
    "small is approved at once": {W: "approve", R: WrongStatus, P: "approve"},
    "smaller is approved at once": {W: "approve", R: WrongStatus, P: PermissionRefused},
    "at once, yet two people": {W: Side.OWNER, R: Side.SECOND_REVIEWER, P: PermissionRefused},
    "unreadable": {W: RuleBroken, R: RuleBroken, P: RuleBroken},
}
TYPED = {"typed", "two people, typed"}
TWO_PEOPLE = {"two people", "two people, typed", "at once, yet two people"}


def case_of(role: Role, status: RequestStatus, policy: str) -> Case:
    rules, checks = POLICIES[policy]
    actor = BY_POLICY if role is Role.POLICY else Actor(f"{role}@hospital.example", role)
    return Case(actor, replace(RECORD, status=status), rules, EPSILON, checks)


def outcome(judge: Callable[[], Any]) -> Any:
    try:
        return judge()
    except DatasiteError as error:
        return type(error)


@pytest.mark.parametrize("role", list(Role))
def test_who_may_approve(role: Role) -> None:
    typings = (NAME, f" {NAME} ", "", "flu", NAME.upper())
    for status, policy, typed in itertools.product(RequestStatus, POLICIES, typings):
        case = case_of(role, status, policy)
        found = outcome(lambda case=case, typed=typed: check_may_approve(case, plan_digest="d" * 64, typed=typed))
        if role in (A, S):
            wanted: Any = PermissionRefused
        elif status is not RequestStatus.CHECKED:
            wanted = WrongStatus
        else:
            wanted = APPROVALS[policy][role]
            untyped = policy in TYPED and role is not P and typed.strip() != NAME
            wanted = RuleBroken if untyped and wanted not in (RuleBroken, PermissionRefused) else wanted
        assert found == (None if wanted == "approve" else wanted), (role, status, policy, typed)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("to", [RequestStatus.DENIED, RequestStatus.CHANGES_REQUESTED])
def test_who_may_deny_and_ask_for_changes(to: RequestStatus, role: Role) -> None:
    for status, policy in itertools.product(RequestStatus, POLICIES):
        case = case_of(role, status, policy)
        found = outcome(lambda case=case: check_may_refuse(case, to))
        approved = to is RequestStatus.DENIED and status is RequestStatus.APPROVED  # which is revoked, not denied
        if role in (A, S):
            wanted: Any = PermissionRefused
        elif role is P:
            at_once = to is RequestStatus.DENIED and policy == "check fails, denied at once"
            wanted = (WrongStatus if approved else None) if at_once else PermissionRefused
        elif role is R and policy not in TWO_PEOPLE:
            wanted = WrongStatus
        else:
            wanted = WrongStatus if approved else None
        assert found == wanted, (role, status, policy)


@pytest.mark.parametrize("role", list(Role))
def test_the_owner_alone_revokes(role: Role) -> None:
    found = outcome(lambda: check_may_revoke(case_of(role, RequestStatus.APPROVED, "plain")))
    assert found == (None if role is W else PermissionRefused)


def test_whose_decision_is_asked_for() -> None:
    for role, policy in itertools.product(Role, POLICIES):
        asked = role is W or (role is R and policy in TWO_PEOPLE)
        assert may_decide(case_of(role, RequestStatus.CHECKED, policy)) is asked
        assert not may_decide(case_of(role, RequestStatus.APPROVED, policy))


def test_a_plan_that_was_not_the_one_read_is_not_approved() -> None:
    case = case_of(W, RequestStatus.CHECKED, "plain")
    assert outcome(lambda: check_may_approve(case, plan_digest="e" * 64, typed=NAME)) is WrongStatus
    assert outcome(lambda: check_may_approve(case, plan_digest=None, typed=NAME)) is None  # a door that shows none


def test_what_has_no_plan_is_approved_by_nobody() -> None:
    for role in Role:
        case = replace(case_of(role, RequestStatus.CHECKED, "plain"), epsilon=None)
        assert issubclass(
            outcome(lambda case=case: check_may_approve(case, plan_digest=None, typed=NAME)), DatasiteError
        )


@pytest.mark.parametrize("name", ["", "Owner", "OWNER", "owner ", "reviewer", "admin", "root", "None"])
def test_an_unknown_role_is_an_error(name: str) -> None:
    with pytest.raises(PermissionRefused, match="is no role"):
        role_named(name)
    with pytest.raises(PermissionRefused, match="is no role"):
        Actor("a@hospital.example", name)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Actor("a@hospital.example")  # type: ignore[call-arg]
    with pytest.raises(PermissionRefused, match="names nobody"):
        Actor("", Role.OWNER)


# -- the doors ---------------------------------------------------------------------------------------------------------

Door = Callable[[Desk, Role, str, str, str], str]
"""(desk, role, what is asked, request, typed) -> what was answered; raises `DatasiteError` or `Refused`."""


@cache
def _browser(desk: Desk, role: Role) -> Browser:
    return Browser(desk, role, "http://testserver")


def by_console(desk: Desk, role: Role, verb: str, request: str, typed: str) -> str:
    browser = _browser(desk, role)
    digest = desk.datasite.ledger.requests.get(request).plan_digest
    fields = {"plan_digest": digest, "typed": typed, "reason": "No.", "comment": "Less."}
    answer = browser.post(f"/requests/{request}/{verb}", **fields)
    if answer.status_code == 403:
        raise PermissionRefused("not for this role")
    return str(browser.get(f"/requests/{request}").text)


def by_command(desk: Desk, role: Role, verb: str, request: str, typed: str) -> str:
    given: dict[str, Any] = {"request": request}
    given |= {"typed": typed} if verb == "approve" else {"comment" if verb == "ask-changes" else "reason": "No."}
    return str(act_as_owner(desk.datasite, verb.replace("-", "_"), "root", given))


def by_pysyft(desk: Desk, role: Role, verb: str, request: str, typed: str) -> str:
    service = object.__new__(services.GuardedRequestService)
    service.datasite = desk.datasite
    service._only_code = lambda context, uid: request  # type: ignore[assignment, method-assign]
    stored = SimpleNamespace(unwrap=lambda: SimpleNamespace(email=EMAILS.get(role, "ada@university.example")))
    users = SimpleNamespace(stash=SimpleNamespace(get_by_verify_key=lambda *_: stored))
    server = SimpleNamespace(services=SimpleNamespace(user=users), verify_key="")
    syft_role = {W: ServiceRole.ADMIN, S: ServiceRole.DATA_SCIENTIST}[role]
    context: Any = SimpleNamespace(server=server, credentials="", role=syft_role)
    done = service.apply(context, UID(), typed=typed) if verb == "approve" else service.undo(context, UID(), "No.")
    return str(done.message)


DOORS: dict[str, tuple[Door, tuple[Role, ...], tuple[str, ...]]] = {
    "console": (by_console, (W, R, A), ("approve", "deny", "ask-changes", "revoke")),
    "command line": (by_command, (W,), ("approve", "deny", "ask-changes", "revoke")),
    "PySyft": (by_pysyft, (W, S), ("approve", "deny")),
}
SETTINGS = {
    "plain": {},
    "typed": {"typed_confirmation_epsilon": 0.1},
    "two people": {"second_reviewer_epsilon": 0.1},
    "check fails": {"max_epsilon": 0.1},
    "unreadable": {"max_epsilon": '"much"'},
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk") / "datasite")
    yield made
    made.close()


def with_policy(desk: Desk, policy: str) -> None:
    lines = "\n".join(f"{name} = {value}" for name, value in SETTINGS[policy].items())
    (Path(desk.datasite.settings.directory) / "policy.toml").write_text(lines)
    with contextlib.suppress(DatasiteError):  # nothing is loosened, or the file cannot be read
        desk.act("agree_policy", {"digest": desk.act("policy", {})["digest"]}, role=R)


def numbers() -> Iterator[str]:
    yield from (f"{number:032x}" for number in itertools.count(1))


REQUESTS = numbers()
EVERY_WAY = [(door, role) for door, (_, roles, _) in DOORS.items() for role in roles]


@pytest.mark.parametrize(("door", "role"), EVERY_WAY)
def test_every_door_comes_to_what_the_judge_says(desk: Desk, door: str, role: Role) -> None:
    """Each door only translates: a waiting request ends up where the table has it, whichever door it was."""
    for verb, policy in itertools.product(DOORS[door][2], SETTINGS):
        for typed in (NAME, "") if verb == "approve" else ("",):
            _check_one(desk, door, role, verb, policy, typed)


def _check_one(desk: Desk, door: str, role: Role, verb: str, policy: str, typed: str) -> None:
    with_policy(desk, policy)
    request = desk.ask(next(REQUESTS))
    with_verb = DOORS[door][0]
    with contextlib.suppress(DatasiteError, Refused):
        with_verb(desk, role, verb, request, typed)
    status, votes = desk.datasite.ledger.requests.get(request).status, desk.datasite.ledger.requests.votes(request)
    wanted, wanted_votes = RequestStatus.CHECKED, 0
    if verb == "approve" and role in (W, R) and not (policy == "typed" and typed != NAME):
        found = APPROVALS[policy].get(role)
        wanted = RequestStatus.APPROVED if found == "approve" else RequestStatus.CHECKED
        wanted_votes = int(isinstance(found, Side))
    elif verb in ("deny", "ask-changes") and (role is W or (role is R and policy == "two people")):
        wanted = RequestStatus.DENIED if verb == "deny" else RequestStatus.CHANGES_REQUESTED
    assert (status, len(votes)) == (wanted, wanted_votes), (door, role, verb, policy, typed)
    if wanted is RequestStatus.CHECKED:
        with_policy(desk, "plain")
        desk.act("deny", {"request": request, "reason": "Done with."})


def test_a_stock_client_is_told_how_to_type_the_name(desk: Desk) -> None:
    with_policy(desk, "typed")
    request = desk.ask(next(REQUESTS))
    with pytest.raises(Refused, match=r'request\.approve\(typed="flu_counts"\)'):
        by_pysyft(desk, W, "approve", request, "")
    assert by_pysyft(desk, W, "approve", request, NAME) == APPROVED


def test_a_decision_reads_the_policy_once(desk: Desk) -> None:
    """Else a policy that changes meanwhile approves by a mix of both."""
    with_policy(desk, "plain")
    request, reads = desk.ask(next(REQUESTS)), []
    read = desk.datasite.decisions.read_rules

    def counted() -> Rules:
        reads.append(1)
        return read()

    desk.datasite.decisions.read_rules = counted
    try:
        assert desk.act("approve", {"request": request}) == APPROVED
    finally:
        desk.datasite.decisions.read_rules = read
    assert len(reads) == 1


def test_votes_of_the_same_moment_end_in_one_approval(desk: Desk) -> None:
    with_policy(desk, "two people")
    request = desk.ask(next(REQUESTS))
    ledger, decisions = desk.datasite.ledger, desk.datasite.decisions
    reserve = decisions._reserve

    def beaten(case: Case, plan: Any, rules: Rules) -> CodeRequestRecord:
        decisions._reserve = reserve  # type: ignore[method-assign]
        assert desk.act("approve", {"request": request}, role=R) == APPROVED  # the other's comes first
        return reserve(case, plan, rules)

    assert desk.act("approve", {"request": request}, role=R) == VOTED
    decisions._reserve = beaten  # type: ignore[method-assign]
    assert desk.act("approve", {"request": request}) == APPROVED
    assert ledger.requests.get(request).status is RequestStatus.APPROVED


def test_a_request_can_be_denied_where_the_policy_cannot_be_read(desk: Desk) -> None:
    with_policy(desk, "unreadable")
    request = desk.ask(next(REQUESTS))
    checks = desk.act("show", {"request": request})["checks"]
    assert [check["title"] for check in checks if not check["passed"]] == ["Policy"]
    desk.act("deny", {"request": request, "reason": "No."})
    assert desk.datasite.ledger.requests.get(request).status is RequestStatus.DENIED


def test_the_factories_plan_costs_what_the_table_says() -> None:
    assert plan_of(statistics(epsilon=EPSILON)).mechanism.epsilon == EPSILON  # type: ignore[union-attr]
