"""Simulated hospitals as Flower's ClientApps: what a node is sent, what it trains, and what is said without Ray.

The engine itself is not installed here. Its nodes stand in this process: they hand messages to the same `ClientApp`.
`python -m tests.benchmarks simulation` runs it on Ray where that is installed.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict
from numpy import testing
from torch import Tensor, nn
from typer.testing import CliRunner

import researcher
from policies.errors import InvalidRequest, Unavailable
from researcher import simulated_ray
from researcher.__main__ import app
from researcher.simulated_patients import Rows
from researcher.simulated_training import Hospitals, Trainer
from researcher.simulation import Faults, simulate
from researcher.state import Tensors
from tests.researcher.conftest import TRAINING
from tests.researcher.fake_datasites import SCHEMA

TASK = (1, 1, 1)
MECHANISM = replace(TRAINING, epsilon=None, noise_multiplier=1.0, sampling_rate=0.5, steps=3)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(x).sigmoid()


class Nodes:
    """Flower's engine as its `Grid` shows it: every node runs the app, in an order of its own."""

    def __init__(self, client_app: Any, count: int) -> None:
        self.app, self.numbers = client_app, [7000 + 3 * place for place in range(count)]
        self.silent: set[int] = set()
        self.failing: set[int] = set()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        for message in reversed(list(messages)):
            node = message.metadata.dst_node_id
            assert node in self.numbers
            if node in self.silent:
                continue
            if node in self.failing:
                reply = Message(Error(0, "out of memory"), reply_to=message)
            else:
                context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
                reply = self.app(message, context)
            reply.metadata.__dict__["_src_node_id"] = node
            yield reply


@pytest.fixture
def simulated(network: Any) -> Hospitals:
    """Five of them, of different sizes."""
    schema, draw, model = network.dataset("flu").schema.predicting(MECHANISM), np.random.default_rng(1), Small()
    rows = [
        Rows(draw.normal(size=(size, 2)).astype(np.float32), draw.integers(0, 2, size)) for size in (20, 31, 25, 40, 22)
    ]
    return Hospitals(Trainer(model, weights(), MECHANISM, schema, seed=4), rows, [20, 31, 25, 40, 22])


def weights() -> Tensors:
    return {"output.weight": np.array([[0.5, -0.25]], np.float32), "output.bias": np.zeros(1, np.float32)}


def same(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        testing.assert_array_equal(value, other[name])


def test_each_node_trains_the_hospital_of_its_message(simulated: Hospitals) -> None:
    nodes = Nodes(simulated_ray.client_app(lambda: simulated), 5)
    train = simulated_ray.train_on(nodes, nodes.numbers, TASK)  # type: ignore[arg-type]
    asked = [3, 0, 4]
    for hospital, trained in zip(asked, train(asked, weights(), 2), strict=True):
        same(trained, simulated.train_one(hospital, weights(), 2))
        assert trained["output.weight"].dtype == np.float32


def test_draws_depend_on_hospital_and_round_and_on_nothing_else(simulated: Hospitals) -> None:
    first = simulated.train_one(1, weights(), 1)
    simulated.train_one(2, weights(), 1)  # another before it changes nothing
    same(simulated.train_one(1, weights(), 1), first)
    alike = replace(simulated, rows=[simulated.rows[0]] * 5, patients=[20] * 5)
    drawn = [alike.train_one(hospital, weights(), round) for hospital, round in ((0, 1), (1, 1), (0, 2))]
    assert len({trained["output.weight"].tobytes() for trained in drawn}) == 3


def test_a_hospital_alone_trains_as_beside_others_do(simulated: Hospitals) -> None:
    """Without noise and with everybody in the sample nothing is drawn: then the two ways are one."""
    quiet = replace(MECHANISM, noise_multiplier=1e-9, sampling_rate=1.0)
    made = replace(simulated, trainer=Trainer(Small(), weights(), quiet, simulated.trainer.schema, seed=0))
    for hospital, together in enumerate(made.train(range(5), weights(), 1)):
        alone = made.train_one(hospital, weights(), 1)
        for name, value in together.items():
            testing.assert_allclose(alone[name], value, atol=1e-6)
        assert np.abs(together["output.weight"] - weights()["output.weight"]).max() > 1e-3


def test_a_node_that_fails_or_is_silent_ends_the_round_by_name(simulated: Hospitals) -> None:
    nodes = Nodes(simulated_ray.client_app(lambda: simulated), 5)
    train = simulated_ray.train_on(nodes, nodes.numbers, TASK)  # type: ignore[arg-type]
    nodes.failing = {nodes.numbers[1]}
    with pytest.raises(Unavailable, match="failed at simulated hospital 2: out of memory"):
        train([0, 2, 4], weights(), 1)
    nodes.failing, nodes.silent = set(), {nodes.numbers[0]}
    with pytest.raises(Unavailable, match="1 of 3 simulated hospitals did not answer"):
        train([0, 2, 4], weights(), 1)


def test_a_simulation_on_nodes_has_the_faults_and_charges_of_one_in_process(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def on_nodes(simulated: Hospitals, count: int) -> Iterator[Callable[[Sequence[int], Tensors, int], list[Tensors]]]:
        nodes = Nodes(simulated_ray.client_app(lambda: simulated), count)
        yield simulated_ray.train_on(nodes, nodes.numbers, TASK)  # type: ignore[arg-type]

    monkeypatch.setattr(simulated_ray, "check_ray", lambda: None)
    monkeypatch.setattr(simulated_ray, "on_ray", on_nodes)
    study = researcher.Study("sim", network.dataset("flu"), Small, TRAINING, state=tmp_path / "sim", progress=False)
    options: dict[str, Any] = {"hospitals": 25, "patients": 40, "faults": Faults(straggling=0.2), "late": True}
    here, there = simulate(study, **options), simulate(study, engine="ray", **options)
    for one, other in zip(here.rounds, there.rounds, strict=True):
        assert (one.asked, one.answered, one.dropped, one.late) == (
            other.asked,
            other.answered,
            other.dropped,
            other.late,
        )
    testing.assert_array_equal(here.spent, there.spent)
    assert here.weights.keys() == there.weights.keys()
    assert any((here.weights[name] != there.weights[name]).any() for name in here.weights)  # draws of their own


def test_hospitals_are_written_for_other_processes_and_read_once(
    simulated: Hospitals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.cloudpickle", pickle)  # Ray's, by value, is as this is by name
    simulated_ray.keep(simulated, tmp_path)
    found = simulated_ray.kept(str(tmp_path))
    assert simulated_ray.kept(str(tmp_path)) is found
    assert list(found.patients) == list(simulated.patients)
    same(found.train_one(3, weights(), 1), simulated.train_one(3, weights(), 1))
    assert isinstance(found.rows[2].inputs.base, np.memmap)  # not a copy of it in every process


def test_without_ray_the_error_names_what_to_install(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    study = researcher.Study("sim", network.dataset("flu"), Small, TRAINING, state=tmp_path / "sim", progress=False)
    with pytest.raises(InvalidRequest, match=r"needs Ray.*pip install 'ray==2\.[0-9.]+'.*leave engine out"):
        simulate(study, engine="ray")
    with pytest.raises(InvalidRequest, match=r"engine='spark' is none\. Simulations run on process or ray"):
        simulate(study, engine="spark")
    (tmp_path / "schema.toml").write_text(SCHEMA.format(population="p", oldest=110))
    (tmp_path / "study.py").write_text(
        "import researcher\nfrom tests.researcher.conftest import TRAINING\n"
        "from tests.researcher.test_simulated_ray import Small\n"
        f"study = researcher.Study('s', researcher.connect('network.toml').dataset('flu'), Small, TRAINING,"
        f" state={str(tmp_path / 's')!r})\n"
    )
    said = CliRunner().invoke(
        app,
        ["simulate", str(tmp_path / "study.py"), "--schema", str(tmp_path / "schema.toml"), "--engine", "ray"],
    )
    assert isinstance(said.exception, InvalidRequest)
    assert "needs Ray" in str(said.exception)
