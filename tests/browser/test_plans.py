"""Yearly plans, parts reserved for projects and what fits together, in the console and as answers of actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.actions.balances import balance_for_researchers
from datasites.ledger.years import YearlyPlan
from datasites.people.roles import Role
from datasites.review.policy import DEFAULT_POLICY
from policies.errors import BudgetExceeded, DatasiteError, InvalidRequest, PermissionRefused
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk
from tests.factories import RESEARCHER

IDS = [f"{number:x}" * 32 for number in range(1, 8)]
POPULATION = "patients"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()


def plan(desk: Desk, line: str) -> None:
    desk.datasite.settings.policy_path.write_text(f"{DEFAULT_POLICY}\n{line}\n", encoding="utf-8")


def reserve(desk: Desk, epsilon: float = 2.0, **options: object) -> None:
    desk.act("make_project", {"name": "Flu <i>", "parties": "General", "ends": "2099-06-30"})
    facts = {"project": "Flu <i>", "population": POPULATION, "epsilon": epsilon, "researchers": [RESEARCHER]}
    desk.act("reserve_for_project", {**facts, **options})


def test_a_plan_is_shown_wherever_a_balance_is_and_refuses_in_words(desk: Desk) -> None:
    plan(desk, "yearly_plans = { patients = { epsilon = 1.0 } }")
    first, second = desk.ask(IDS[0], epsilon=0.7), desk.ask(IDS[1], epsilon=0.7)
    desk.act("approve", {"request": first})
    with pytest.raises(BudgetExceeded, match=r"ε=0\.3000 remains of the part of 20\d\d, ε=1\.0000, in the yearly plan"):
        desk.act("approve", {"request": second})
    owner = desk.browser(Role.OWNER)
    page = owner.get(f"/requests/{second}").text
    assert re.search(r"It does not fit what 20\d\d may add: ε 0\.40 too much\.", page)
    ledger = owner.get("/ledger?population=patients").text
    assert re.search(r"Added in 20\d\d", ledger)
    assert "0.30 left" in ledger
    assert "One year may add ε 1 to patients" in owner.get("/policy").text
    shown = desk.act("show", {"request": second})
    assert [line["whose"] for line in shown["budgets"]] == ["population", "researcher", "year"]
    assert (shown["cost"]["fits"], shown["cost"]["short"]) == (False, pytest.approx(0.4))
    like = desk.act("what_if", {"request": second})
    assert (like["fits"], like["year"]["fits"]) == (7, 0)
    desk.datasite.ledger.verify()


def test_an_owner_makes_changes_and_ends_a_plan_by_a_form(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    policy = desk.datasite.settings.policy_path
    comment = "# What may be decided without anybody"

    def save(**fields: str) -> str:
        page = owner.get("/policy").text
        digest = re.search(r'name="digest" value="([0-9a-f]+)"', page)
        assert digest is not None
        answer = owner.post("/policy/year", digest=digest[1], population=POPULATION, **fields)
        return answer.text or owner.get("/policy").text

    assert "ε of a year: patients" in owner.get("/policy").text
    save(epsilon="1.5", since="2026")
    assert "yearly_plans = {patients = {epsilon = 1.5, carry_over_since = 2026}}" in policy.read_text()
    assert "One year may add ε 1.5 to patients" in owner.get("/policy").text
    save(epsilon="2", since="")
    assert desk.act("policy", {})["rules"]["yearly_plans"] == {POPULATION: {"epsilon": 2, "carry_over_since": None}}
    assert comment in policy.read_text()
    assert "Write what ε one year may add" in save(epsilon="", since="2026")
    assert "yearly_plans.patients" in save(epsilon="-1", since="")  # refused, with what was typed
    assert "yearly_plans.patients" in save(epsilon="1", since="1066")
    assert desk.act("policy", {})["rules"]["yearly_plans"] == {POPULATION: {"epsilon": 2, "carry_over_since": None}}
    save(epsilon="", since="")
    assert desk.act("policy", {})["rules"]["yearly_plans"] == {}
    changes = [
        entry for entry in desk.act("search_log", {"search": "change policy"}) if entry["what"] == "change policy"
    ]
    assert len(changes) == 3


def test_a_plan_that_names_nobody_here_is_taken_away_by_the_form(desk: Desk) -> None:
    plan(desk, "yearly_plans = { patient = { epsilon = 1.0 }, patients = { epsilon = 3.0 } }")
    owner = desk.browser(Role.OWNER)
    found = re.search(r'name="digest" value="([0-9a-f]+)"', owner.get("/policy").text)
    assert found is not None
    owner.post("/policy/year", digest=found[1], population="patient", epsilon="", since="")
    assert list(desk.act("policy", {})["rules"]["yearly_plans"]) == [POPULATION]
    owner.post("/policy/year", digest=found[1], population="other", epsilon="1")
    assert "is no population here" in owner.get("/policy").text


def test_researchers_are_told_what_is_left_and_not_why(desk: Desk) -> None:
    reserve(desk, 5.5, with_training=False)
    told = balance_for_researchers(desk.datasite.ledger, POPULATION, YearlyPlan(1.0), "other@university.example")
    assert told["epsilon_remaining"] == 0.5  # 6 less what is reserved, which this year would hold
    told = balance_for_researchers(desk.datasite.ledger, POPULATION, YearlyPlan(1.0), RESEARCHER)
    assert told["epsilon_remaining"] == 1.0  # who is named for it has it
    assert set(told) == {
        "population", "epsilon", "delta", "order", "epsilon_spent", "epsilon_reserved", "epsilon_remaining",
        "epsilon_remaining_with_training", "share_left", "accounts",
    }  # fmt: skip


def test_a_plan_of_no_population_approves_nothing(desk: Desk) -> None:
    plan(desk, "yearly_plans = { patient = { epsilon = 1.0 } }")
    request = desk.ask(IDS[0])
    with pytest.raises(DatasiteError, match=r"Yearly plan: .* names 'patient'"):
        desk.act("approve", {"request": request})
    assert desk.datasite.ledger.requests.get(request).status is RequestStatus.CHECKED


def test_a_part_is_reserved_drawn_on_and_freed_in_the_console(desk: Desk) -> None:
    desk.act("make_project", {"name": "Flu <i>", "parties": "General", "ends": "2099-06-30"})
    (project,) = desk.act("projects", {})
    place, owner = f"/projects/{project['id']}", desk.browser(Role.OWNER)
    owner.post(f"{place}/reserve", population=POPULATION, epsilon="2", researchers=RESEARCHER, with_training="true")
    assert "0 drawn, 2.00 left of 2" in owner.get(place).text
    request = desk.ask(IDS[0], epsilon=0.5)
    desk.act("file_request", {"request": request, "project": "Flu <i>"})
    page, shown = owner.get(f"/requests/{request}").text, desk.act("show", {"request": request})
    assert "Reserved for Flu &lt;i&gt;, drawn" in page
    assert "Sets aside ε 0.50" in page
    added = shown["cost"]["spent_after"] - shown["cost"]["spent_before"]
    assert added == pytest.approx(0.5)  # what its patients lose, whoever it was reserved for
    assert [line["whose"] for line in shown["budgets"]] == ["population", "researcher", "project"]
    desk.act("approve", {"request": request})
    ledger = owner.get("/ledger?population=patients").text
    assert "Reserved for projects" in ledger
    assert "Flu &lt;i&gt;" in ledger
    assert "<i>" not in ledger
    owner.post(f"{place}/free", population=POPULATION)
    assert "No part of a budget is reserved for it" in owner.get(place).text
    assert [row.what for row in desk.datasite.audit_log.entries() if "project" in row.what or "free" in row.what] == [
        "make project",
        "reserve for project",
        "free for all",
    ]
    desk.datasite.ledger.verify()


@pytest.mark.parametrize("role", [Role.SECOND_REVIEWER, Role.AUDITOR])
def test_only_an_owner_reserves_and_frees(desk: Desk, role: Role) -> None:
    reserve(desk)
    facts = {"project": "Flu <i>", "population": POPULATION}
    for action, more in (("reserve_for_project", {"epsilon": 1.0}), ("free_for_all", {})):
        with pytest.raises(PermissionRefused):
            desk.act(action, {**facts, **more}, role=role)
    assert desk.browser(role).get("/requests/fit").status_code == 200


def test_only_researchers_of_this_datasite_are_named(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match=r"'eve@elsewhere\.example' is no researcher here"):
        reserve(desk, researchers=["eve@elsewhere.example"])
    facts = {"project": "Flu <i>", "population": POPULATION, "epsilon": 1.0}
    with pytest.raises(InvalidRequest, match="Name 1 to 100 researchers"):
        desk.act("reserve_for_project", facts)


def test_a_project_that_was_lengthened_after_its_end_has_no_part(desk: Desk) -> None:
    reserve(desk)
    desk.act("change_project", {"project": "Flu <i>", "ends": "2020-01-01"})
    desk.act("change_project", {"project": "Flu <i>", "ends": "2099-01-01"})
    assert desk.act("project", {"project": "Flu <i>"})["parts"] == []
    desk.datasite.ledger.verify()


# -- what fits together ------------------------------------------------------------------------------------------------


def test_the_inbox_says_what_each_leaves_and_which_set_is_largest(desk: Desk) -> None:
    for id, epsilon in zip(IDS, (3.5, 2.0, 1.5, 0.9, 0.6), strict=False):
        desk.ask(id, epsilon=epsilon)
    (found,) = desk.act("waiting", {})
    # Pure releases count by divergence where that is less: the first two of ε 3.5 and 2 leave 0.5.
    assert [line["fits"] for line in found["requests"]][:2] == [True, True]
    assert found["requests"][1]["left"] == pytest.approx(0.5, abs=0.1)
    assert len(found["most_together"]) >= len(found["by_age"])
    assert found["is_largest"]
    for name in ("by_age", "most_together"):
        (tried,) = desk.act("try_approvals", {"requests": found[name]})
        assert tried["by_age"] == found[name]
    for request in found["most_together"]:
        desk.act("approve", {"request": request, "typed": "flu_counts"})
    (after,) = desk.act("waiting", {})
    assert after["by_age"] == []


def test_a_choice_in_the_console_is_shown_and_decides_nothing(desk: Desk) -> None:
    for id, epsilon in zip(IDS, (3.9, 2.0, 2.5), strict=False):
        desk.ask(id, epsilon=epsilon)
    owner = desk.browser(Role.OWNER)
    assert "What fits together" in owner.get("/requests").text
    page = owner.get("/requests/fit").text
    assert "2 are the most that fit together" in page
    chosen = owner.get(f"/requests/fit?pick={IDS[1][:12]}&pick={IDS[2][:12]}").text
    assert "They fit together" in chosen
    assert f"datasite approve {IDS[1][:8]} {IDS[2][:8]}" in chosen
    assert "in the order in which they came" in owner.get(f"/requests/fit?pick={IDS[0]}&pick={IDS[2]}").text
    assert "They fit together" in owner.get("/requests/fit?choose=most_together&population=patients").text
    assert "names no request" in owner.get("/requests/fit?pick=feed").text
    assert {line.status for line in desk.datasite.ledger.requests.lines()} == {RequestStatus.CHECKED}
    desk.act("deny", {"request": IDS[0], "reason": "no"})
    assert "does not wait for a decision" in owner.get(f"/requests/fit?pick={IDS[0]}").text


def test_what_is_reserved_is_there_for_its_project_alone_in_the_inbox_too(desk: Desk) -> None:
    reserve(desk, 3.0, with_training=False)
    for id in IDS[:2]:
        desk.ask(id, epsilon=3.5)
    desk.act("file_request", {"request": IDS[1], "project": "Flu <i>"})
    (found,) = desk.act("waiting", {})
    assert [(line["fits"], line["draws_on"]) for line in found["requests"]] == [(False, None), (True, "Flu <i>")]
    assert "reserved for projects" in found["requests"][0]["why"]
