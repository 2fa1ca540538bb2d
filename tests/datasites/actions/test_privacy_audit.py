"""`datasite audit`: through a serving datasite, in the confined runner, at no charge and with its progress told."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import pytest
from rich.console import Console
from torch import Tensor

from datasites.cli import privacy_audit
from datasites.engine.noise import NoiseSource
from datasites.engine.privacy_audit import Records, one_run_audit
from datasites.engine.training import train_round
from datasites.operations.control_socket import ask
from datasites.progress import tell, told_to
from policies.errors import DatasiteError
from policies.graph.graphs import Graph
from policies.privacy.accountant import epsilon_of, resolve
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema
from tests.e2e.stock import login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, statistics_source, training_source

TRAINING = DPSGD(
    loss="binary_cross_entropy",
    rounds=5,
    steps=40,
    sampling_rate=0.1,
    clipping_norm=4.0,
    learning_rate=0.35,
    epsilon=2.0,
)


def test_a_request_is_audited_at_no_charge(shared_datasite: DatasiteProcess) -> None:
    client = login(shared_datasite.url, RESEARCHER, PASSWORD)
    submit(client, training_source())
    submit(client, statistics_source(), weights=False)
    ids = {each["function"]: each["id"] for each in shared_datasite.json("requests")}
    before = shared_datasite.json("ledger")

    heard: list[str] = []
    socket = shared_datasite.directory / "control.sock"
    asked = {"request": ids["flu_round"], "canaries": 200, "seed": 1}
    found = ask(socket, "audit", asked, tell=heard.append)
    assert 0 <= found["bound"] < found["epsilon"] == pytest.approx(2.0, abs=1e-2)
    assert not found["contradicted"]
    assert (found["canaries"], found["seed"]) == (200, 1)
    rounds = [each for each in heard if each.startswith("round")]
    assert rounds == [f"round {number} of 3, 5 steps" for number in (1, 2, 3)]

    assert shared_datasite.json("ledger") == before
    assert shared_datasite.json("runs")["runs"] == []
    logged = shared_datasite.json("log", "--search", "audit")[0]
    assert (logged["what"], logged["object"]) == ("audit", ids["flu_round"])

    printed = shared_datasite.cli("audit", ids["flu_round"], "--canaries", "100", "--seed", "2").stdout
    assert "ε is at least" in printed
    assert "proves nothing" in printed
    with pytest.raises(DatasiteError, match="trains nothing"):
        ask(socket, "audit", {"request": ids["flu_counts"]})
    with pytest.raises(DatasiteError, match="outside"):
        ask(socket, "audit", {"request": ids["flu_round"], "canaries": 5})


def test_a_usual_study_gives_a_useful_bound() -> None:
    def engine(
        graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return train_round(graph, declared, schema, patients, records, weights, NoiseSource.from_os())

    mechanism = resolve(TRAINING)
    assert isinstance(mechanism, DPSGD)
    found = one_run_audit(engine, mechanism, 6400, canaries=2000, seed=1, simulations=8)
    assert 0.1 < found.bound < epsilon_of(mechanism, 1e-5)  # 0.5 is expected
    assert abs(found.surplus) < 4


def test_a_contradiction_is_said_in_plain_words() -> None:
    value = {
        "function": "flu", "bound": 4.0, "confidence": 0.95, "delta": 1e-5, "epsilon": 2.0, "pld_epsilon": 1.8,
        "right": 100, "guesses": 100, "canaries": 1000, "seed": 1, "strength": 2.0, "expected_strength": 0.4,
        "expected_deviation": 0.1, "expected_bound": 0.7, "contradicted": True,
    }  # fmt: skip
    said = io.StringIO()
    privacy_audit.render(Console(file=said, width=500), value)
    assert "contradicts the plan" in said.getvalue()
    assert json.dumps(value)


def test_progress_reaches_its_listener_and_nobody_else() -> None:
    heard: list[str] = []
    tell("to nobody")
    with told_to(heard.append):
        tell("one")
    tell("to nobody")
    assert heard == ["one"]
