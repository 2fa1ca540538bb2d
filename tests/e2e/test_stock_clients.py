"""Nothing but stock PySyft on both sides: a researcher submits and runs, an owner approves, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from syft.types.errors import SyftException

from policies.release.certificates import verify
from tests.e2e.stock import asset_of, call, call_until_done, login, submit
from tests.factories import (
    OTHER,
    PASSWORD,
    RESEARCHER,
    DatasiteProcess,
    initial_weights,
    statistics_source,
    training_source,
)


@pytest.fixture(scope="module")
def researcher(shared_datasite: DatasiteProcess) -> Any:
    return login(shared_datasite.url, RESEARCHER, PASSWORD)


@pytest.fixture(scope="module")
def owner(shared_datasite: DatasiteProcess) -> Any:
    return login(shared_datasite.url, "owner@hospital.example", PASSWORD)


def test_researcher_trains_after_owner_approves(shared_datasite: DatasiteProcess, researcher: Any, owner: Any) -> None:
    submit(researcher, training_source("flu_stock"))
    with pytest.raises(SyftException, match="not approved"):
        call(researcher, "flu_stock", weights=initial_weights())
    request = next(each for each in owner.requests if each.code.service_func_name == "flu_stock")
    with pytest.raises(SyftException, match=r'request\.approve\(typed="flu_stock"\)'):
        request.approve()  # its ε is above the policy's, and PySyft's approval is held to that as any other
    with pytest.raises(SyftException, match="nothing else"):
        request.approve(typed="flu_stock", force=True)
    request.approve(typed="flu_stock")

    weights = initial_weights()
    first = call_until_done(researcher, "flu_stock", weights=weights, round=1)
    assert first["status"] == "released"
    assert {name: value.shape for name, value in first["release"].items()} == {
        name: value.shape for name, value in weights.items()
    }
    assert all(not torch.equal(first["release"][name], weights[name]) for name in weights)
    certificate = verify(first["certificate"])
    assert certificate["round"] == 1

    # The same round and weights: the stored bytes, at no cost. Other weights: refused.
    spent = shared_datasite.json("ledger")["balances"][0]["epsilon_spent"]
    again = call(researcher, "flu_stock", weights=weights, round=1)
    assert all(torch.equal(again["release"][name], first["release"][name]) for name in weights)
    with pytest.raises(SyftException, match="other weights"):
        call(researcher, "flu_stock", weights=first["release"], round=1)
    assert shared_datasite.json("ledger")["balances"][0]["epsilon_spent"] == spent

    for number in (2, 3):
        weights = call_until_done(researcher, "flu_stock", weights=weights, round=number)["release"]
    with pytest.raises(SyftException, match=r"\[1, 3\]|completed"):
        call(researcher, "flu_stock", weights=weights, round=4)
    shared_datasite.cli("ledger", "--verify")


def test_statistics_are_released(shared_datasite: DatasiteProcess, researcher: Any) -> None:
    submit(researcher, statistics_source("flu_stock_counts"), weights=False)
    shared_datasite.approve_all()
    answer = call_until_done(researcher, "flu_stock_counts")
    assert answer["status"] == "released"
    assert {name: tuple(value.shape) for name, value in answer["release"].items()} == {
        "count": (1,),
        "mean/temperature": (1,),
    }


def test_denied_request_never_runs(shared_datasite: DatasiteProcess, researcher: Any, owner: Any) -> None:
    submit(researcher, training_source("flu_denied"))
    request = next(each for each in owner.requests if each.code.service_func_name == "flu_denied")
    request.deny(reason="Not this time.")
    with pytest.raises(SyftException, match="denied"):
        call(researcher, "flu_denied", weights=initial_weights())
    mine = {each["function"]: each for each in researcher.api.services.datasite.requests()}
    status = researcher.api.services.datasite.request_status(code=mine["flu_denied"]["id"])
    assert (status["status"], status["comment"]) == ("denied", "Not this time.")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"layer1.weight": torch.zeros(8, 4)}, "layer"),
        ({**initial_weights(), "extra": torch.zeros(1)}, "extra"),
        ({**initial_weights(), "layer2.bias": torch.zeros(2)}, "layer2.bias"),
        ({**initial_weights(), "layer2.bias": torch.zeros(1, dtype=torch.float64)}, "layer2.bias"),
        ({**initial_weights(), "layer2.bias": torch.tensor([float("nan")])}, "layer2.bias"),
    ],
)
def test_wrong_weights_are_refused_before_any_charge(
    shared_datasite: DatasiteProcess, researcher: Any, weights: dict[str, torch.Tensor], message: str
) -> None:
    mine = {each["function"] for each in researcher.api.services.datasite.requests()}
    if "flu_weights" not in mine:
        submit(researcher, training_source("flu_weights", epsilon=1.0))
        shared_datasite.approve_all()
    before = shared_datasite.json("ledger")
    with pytest.raises(SyftException, match=message):
        call(researcher, "flu_weights", weights=weights)
    assert shared_datasite.json("ledger")["head"] == before["head"]


def test_source_that_returns_rows_is_refused_with_the_line(shared_datasite: DatasiteProcess, researcher: Any) -> None:
    with pytest.raises(SyftException, match="line"):
        submit(researcher, "def steal(records, weights, round):\n    return records\n")
    denied = [each for each in shared_datasite.json("requests") if each["status"] == "denied"]
    assert any(each["function"] == "refused" for each in denied)


def test_private_rows_are_not_readable(researcher: Any) -> None:
    asset = asset_of(researcher)
    assert asset.data is None or isinstance(asset.data, SyftException) or not hasattr(asset.data, "shape")
    assert asset.mock.shape[0] == 200


def test_requests_of_others_look_as_if_they_were_not_there(shared_datasite: DatasiteProcess, researcher: Any) -> None:
    other = login(shared_datasite.url, OTHER, PASSWORD)
    mine = researcher.api.services.datasite.requests()
    assert mine
    assert other.api.services.datasite.requests() == []
    with pytest.raises(SyftException, match="no such request"):
        other.api.services.datasite.request_status(code=mine[0]["id"])
    with pytest.raises(SyftException, match="no such request"):
        other.api.services.datasite.certificates(code=mine[0]["id"])


def test_request_beyond_the_budget_is_refused_naming_what_is_left(
    shared_datasite: DatasiteProcess, researcher: Any
) -> None:
    submit(researcher, training_source("flu_costly", epsilon=8.0))
    waiting = next(each for each in shared_datasite.json("requests") if each["function"] == "flu_costly")
    refused = shared_datasite.cli("approve", waiting["id"], "--yes", check=False)
    assert refused.returncode == 1
    assert "ε" in refused.stderr
    assert shared_datasite.json("requests", "--status", "checked")
    shared_datasite.cli("deny", waiting["id"], "--reason", "Too much.")
