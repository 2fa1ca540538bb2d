"""Survival and a regression through a real datasite with a stock client: what the owner is shown, and what leaves."""

from __future__ import annotations

from typing import Any

import pytest

from policies.release.certificates import verify
from tests.e2e.stock import call_until_done, login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, regression_source, survival_source

ASKED = {
    "e2e_alive": (survival_source("e2e_alive"), "share without the event over time (a Kaplan-Meier curve)"),
    "e2e_fitted": (regression_source("e2e_fitted"), "how likely influenza is (a logistic regression) to 3 terms"),
}
SHAPES = {
    "e2e_alive": {"patients": (2, 21)},
    "e2e_fitted": {
        "start": (4,), "turn": (4, 4), "score": (4,), "information": (4, 4), "squares": (1,), "patients": (1,),
        "noise": (3,),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def researcher(shared_datasite: DatasiteProcess) -> Any:
    return login(shared_datasite.url, RESEARCHER, PASSWORD)


@pytest.mark.parametrize("name", ASKED)
def test_an_analysis_is_shown_approved_released_and_certified(
    name: str, shared_datasite: DatasiteProcess, researcher: Any
) -> None:
    source, words = ASKED[name]
    submit(researcher, source, weights=False)
    (request,) = [found for found in shared_datasite.json("requests") if found["function"] == name]
    shown = " ".join(shared_datasite.cli("show", request["id"]).stdout.split())
    assert words in shown
    assert "Only records count for which" in shown
    what_if = shared_datasite.cli("what-if", request["id"]).stdout
    assert f"requests like {name}." in what_if
    assert "after 1: ε = " in what_if
    expected = shared_datasite.json("what-if", request["id"])["after"][0]

    shared_datasite.cli("approve", request["id"], "--yes")
    answer = call_until_done(researcher, name)
    assert answer["status"] == "released"
    assert {key: tuple(value.shape) for key, value in answer["release"].items()} == SHAPES[name]
    certificate = verify(answer["certificate"])
    assert certificate["mechanism"]["kind"] == {"e2e_alive": "kaplan_meier", "e2e_fitted": "regression"}[name]
    spent = shared_datasite.json("ledger")["balances"][0]["epsilon_spent"]
    assert spent == pytest.approx(expected, abs=1e-3)
    shared_datasite.cli("ledger", "--verify")
