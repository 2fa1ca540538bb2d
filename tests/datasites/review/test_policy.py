"""Each rule of an owner's policy lets pass what is at its bound and refuses what is beyond, with the next step."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.ledger.years import YearlyPlan
from datasites.review import policy as module
from datasites.review.policy import (
    CHECKS,
    DEFAULT_POLICY,
    MECHANISMS,
    Case,
    Outcome,
    Rules,
    check,
    outcomes,
    plans_outcome,
)
from policies.errors import RuleBroken
from policies.privacy.mechanisms import Mechanism
from tests.policies.plan_factories import evaluation, plan_of, published, regression, statistics, survival, training

ALL = (training(), statistics(), evaluation(), survival(), regression())


def failed(
    rules: Rules, mechanism: Mechanism, *, epsilon: float = 2.0, patients: int = 1000, **changes: Any
) -> list[Outcome]:
    found = outcomes(rules, plan_of(mechanism, **changes), published(patients=patients), epsilon, "rita@uni.example")
    return [each for each in found if not each.passed]


def test_the_default_policy_is_the_defaults_and_documents_every_rule() -> None:
    assert Rules.from_toml(DEFAULT_POLICY) == Rules() == Rules.from_toml("")
    for each in dataclasses.fields(Rules):
        assert f"{each.name} = " in DEFAULT_POLICY


def test_the_commented_rule_can_be_taken_into_use() -> None:
    text = DEFAULT_POLICY.replace("# researcher_epsilon", "researcher_epsilon")
    assert Rules.from_toml(text).researcher_epsilon == 3.0


def test_every_rule_is_used_somewhere() -> None:
    elsewhere = {  # by approval and by the ledger
        "approval_days",
        "researcher_epsilon",
        "typed_confirmation_epsilon",
        "second_reviewer_epsilon",
        "deny_at_once",
        "approve_at_once_epsilon",
        "yearly_plans",
        "shared_noise_epsilon",
    }
    source = Path(module.__file__).read_text(encoding="utf-8")
    for each in dataclasses.fields(Rules):
        assert each.name in elsewhere or f"rules.{each.name}" in source


@pytest.mark.parametrize("mechanism", ALL, ids=lambda each: each.kind)
def test_an_ordinary_request_passes_every_check(mechanism: Mechanism) -> None:
    found = outcomes(Rules(), plan_of(mechanism), published(), 2.0, "rita@uni.example")
    assert [each.title for each in found] == [title for title, _ in CHECKS]
    assert all(each.passed and each.message for each in found)


noisy = training(epsilon=None, noise_multiplier=1.5)
# title, rules at the bound, rules beyond it, what is asked for
BOUNDS: list[tuple[str, dict[str, Any], dict[str, Any], Mechanism]] = [
    ("Kind of computation", {"allowed_mechanisms": ("dp_sgd",)}, {"allowed_mechanisms": ("statistics",)}, training()),
    ("Privacy loss of the request", {"max_epsilon": 2.0}, {"max_epsilon": 1.9999}, training()),
    ("Chance of failure", {"max_delta": 1e-5}, {"max_delta": 9.9e-6}, training()),
    ("Chance of failure", {"delta_per_patient": 0.01}, {"delta_per_patient": 0.0099}, training()),  # x 1000 patients
    ("Noise", {"min_noise_multiplier": 1.5}, {"min_noise_multiplier": 1.501}, noisy),
    ("Patients in a step", {"min_batch": 80}, {"min_batch": 80.1}, training()),  # 0.1 x 800 outside the hold-out
    ("Number of releases", {"max_rounds": 5}, {"max_rounds": 4}, training()),
    ("Number of releases", {"max_rounds": 2}, {"max_rounds": 1}, evaluation()),
    ("Training steps", {"max_steps": 200}, {"max_steps": 199}, training()),  # 5 rounds of 40
    ("Size of the model", {"max_parameters": 8}, {"max_parameters": 7}, training()),  # 2 x 3 + 2
    ("Patients in the dataset", {"min_patients": 1000}, {"min_patients": 1001}, statistics()),
]


@pytest.mark.parametrize(("title", "at", "beyond", "mechanism"), BOUNDS)
def test_a_rule_passes_at_its_bound_and_fails_beyond(
    title: str, at: dict[str, Any], beyond: dict[str, Any], mechanism: Mechanism
) -> None:
    assert failed(Rules(**at), mechanism) == []
    assert [each.title for each in failed(Rules(**beyond), mechanism)] == [title]


def test_every_check_is_tested_at_its_bound() -> None:
    assert {title for title, *_ in BOUNDS} == {title for title, _ in CHECKS}


def test_a_failed_check_names_value_bound_and_next_step() -> None:
    (found,) = failed(Rules(max_steps=100), training())
    assert found.message == "200 steps over all rounds are above 100. Ask for 100 or fewer."
    (found,) = failed(Rules(), training(delta=1e-4))
    assert found.message.startswith("δ=0.0001 is above 0.00001")
    assert "delta=0.00001" in found.message
    (found,) = failed(Rules(), training(), epsilon=4.00001)
    assert "ε=4.0001 is above" not in found.message  # rounded up, yet no further than four digits
    assert "ε=4.0001 for all rounds is above 4" in found.message


def test_delta_must_shrink_with_the_number_of_patients() -> None:
    assert failed(Rules(), training(), patients=100_000) == []
    (found,) = failed(Rules(), training(), patients=200_000)
    assert "delta=0.000001" in found.message


def test_an_epsilon_that_is_no_number_fails() -> None:
    assert [each.title for each in failed(Rules(), training(), epsilon=float("nan"))] == ["Privacy loss of the request"]


@pytest.mark.parametrize(
    "text",
    [
        "max_epsilon = 'four'",
        "max_epsilon = nan",
        "max_epsilon = inf",
        "max_epsilon = 0",
        "max_epsilon = 101",
        "max_rounds = 1.5",
        "max_rounds = true",
        "max_delta = 0.5",
        "approval_days = 0",
        "researcher_epsilon = -1",
        "allowed_mechanisms = 'dp_sgd'",
        "allowed_mechanisms = ['dp_sgd', 'gdp']",
        "max_epsilonn = 1.0",
        "deny_at_once = 1",
        "approve_at_once_epsilon = 'all'",
        "yearly_plans = 2.0",
        "yearly_plans = { city = 2.0 }",
        "yearly_plans = { city = {} }",
        "yearly_plans = { city = { epsilon = 101 } }",
        "yearly_plans = { city = { epsilon = '2' } }",
        "yearly_plans = { city = { epsilon = nan } }",
        "yearly_plans = { city = { epsilon = 2.0, carry_over = true } }",
        "yearly_plans = { city = { epsilon = 2.0, carry_over_since = 26 } }",
        "[yearly_plans.city]\nepsilon = 2.0\ncarry_over_sinse = 2026",
        "max_epsilon = ",
    ],
)
def test_a_policy_that_cannot_be_read_refuses_everything(text: str) -> None:
    with pytest.raises(RuleBroken, match="Nothing is approved until the owner mends it"):
        Rules.from_toml(text)


def test_a_plan_is_a_line_or_a_table_of_its_own() -> None:
    line = DEFAULT_POLICY.replace("# yearly_plans", "yearly_plans")
    table = '[yearly_plans."my-patients"]\nepsilon = 2\ncarry_over_since = 2026\n'
    plans = {"my-patients": YearlyPlan(2.0, 2026)}
    assert Rules.from_toml(line).yearly_plans == Rules.from_toml(DEFAULT_POLICY + table).yearly_plans == plans
    assert Rules(yearly_plans=plans).yearly_plans == plans


def test_a_plan_of_a_population_that_is_not_here_is_a_failing_check() -> None:
    """Else a slip of the pen would be a population without a plan."""
    rules = Rules(yearly_plans={"city": YearlyPlan(2.0), "ciyt": YearlyPlan(1.0)})
    assert plans_outcome(rules, ("ciyt", "city")) is None
    failed = plans_outcome(rules, ("city",))
    assert failed is not None
    assert not failed.passed
    assert "names 'ciyt'" in failed.message
    assert failed.message.endswith("Nothing is approved until the owner mends it.")


def test_the_range_of_every_number_is_checked() -> None:
    for name, value in tomllib.loads(DEFAULT_POLICY).items():
        if name not in ("allowed_mechanisms", "deny_at_once"):
            assert isinstance(value, int | float)
            with pytest.raises(RuleBroken, match=name):
                Rules(**{name: 1e12})


def test_rules_cover_every_mechanism() -> None:
    assert {each.kind for each in ALL} == set(MECHANISMS)


@pytest.fixture
def later_check() -> Iterator[str]:
    @check("Office hours")
    def check_office_hours(rules: Rules, case: Case) -> str:
        if case.researcher.startswith("rita"):
            raise RuleBroken("Rita asks too often. Ask tomorrow.")
        return "anybody else may"

    yield "Office hours"
    CHECKS.pop()


def test_a_later_check_adds_itself(later_check: str) -> None:
    assert [each.title for each in failed(Rules(), statistics())] == [later_check]
