"""Simulated hospitals: the declared mechanism step for step, the ledger's charges, faults that are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn
from typer.testing import CliRunner

import researcher
from datasites.engine.matrix import HELD_OUT, PATIENT
from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from datasites.ledger.amounts import Charged, amount_of
from datasites.ledger.ledger import Ledger
from policies.errors import InvalidRequest, Unavailable
from policies.graph.exporter import export_model
from policies.privacy.accountant import charge_for, resolve
from policies.privacy.budget import PrivacyBudget
from policies.privacy.nano import NANO
from researcher.__main__ import app
from researcher.simulated_patients import Rows, Source
from researcher.simulated_training import Trainer
from researcher.simulation import Faults, Filters, area, simulate
from tests.researcher.conftest import TRAINING
from tests.researcher.fake_datasites import SCHEMA

NOTHING_WRONG = Faults(denying=0, dropping=0, straggling=0, spent=0)
SMALL: dict[str, Any] = {"hospitals": 30, "patients": 60}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(2, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x).tanh()).sigmoid()


@pytest.fixture
def study(network: Any, tmp_path: Path) -> Any:
    return researcher.Study("sim", network.dataset("flu"), Small, TRAINING, state=tmp_path / "sim", progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.8, "weight_decay": 0.1},
        {"optimizer": "adam", "learning_rate": 0.05},
        {"clipping": "automatic", "schedule": "cosine"},
        {"proximal_mu": 0.5, "class_weights": (1.0, 3.0)},
        {"loss": "binary_cross_entropy_with_logits", "clipping_norm": 0.05},
    ],
)
def test_a_simulated_round_is_the_one_that_a_datasite_runs(network: Any, changes: dict[str, Any]) -> None:
    """All patients in every sample, and next to no noise: then the engine and the simulation have the same to do."""
    facts = {"epsilon": None, "noise_multiplier": 1e-7, "sampling_rate": 1.0, "steps": 5, "learning_rate": 0.5}
    mechanism = replace(TRAINING, **(facts | changes))
    schema = network.dataset("flu").schema.predicting(mechanism)
    torch.manual_seed(1)
    model = Small()
    graph = export_model(model, (2,))
    rows = Source(schema, mechanism, 3)._made_up(40, np.random.default_rng(1))
    rows[:, PATIENT], rows[:, HELD_OUT] = np.arange(40), 0
    start = {name: value.detach() for name, value in model.named_parameters()}
    there = train_round(graph, mechanism, schema, 50, rows, start, NoiseSource.from_os(), round=2)
    initial = {name: value.numpy() for name, value in start.items()}
    trainer = Trainer(model, initial, mechanism, schema, seed=0)
    given = Rows(schema.inputs(rows), schema.targets(rows))
    fewer = Rows(given.inputs[:7], given.targets[:7])  # another hospital beside it, with fewer patients
    here, _ = trainer.train([given, fewer], [50, 9], initial, 2)
    for name, value in there.items():
        np.testing.assert_allclose(here[name], value.numpy(), atol=2e-4)
        assert np.abs(here[name] - initial[name]).max() > 1e-3


def test_noise_of_a_simulated_round_is_the_declared_one(network: Any) -> None:
    mechanism = replace(TRAINING, epsilon=None, noise_multiplier=2.0, sampling_rate=0.25, steps=10, learning_rate=0.5)
    schema = network.dataset("flu").schema.predicting(mechanism)
    model = Small()
    initial = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    nobody = [Rows(np.zeros((1, 2), np.float32), np.zeros(1, np.int64))] * 400
    trained = Trainer(model, initial, replace(mechanism, sampling_rate=1e-9), schema, seed=0).train(
        nobody, [round(0.25 * 1000 / 1e-9)] * 400, initial, 1
    )
    moved = np.concatenate([(one[name] - initial[name]).ravel() for one in trained for name in initial])
    # Ten steps of 0.5 · 2 · 1 / (0.25 · 1000), added up by √10.
    assert moved.std() == pytest.approx(0.5 * 2 / 250 * np.sqrt(10), rel=0.05)


def test_charges_are_those_of_the_ledger(tmp_path: Path) -> None:
    budget, mechanism = PrivacyBudget(3.0, 1e-5), resolve(TRAINING)
    with Ledger.create(tmp_path / "ledger.db") as ledger:
        balance = ledger.budgets.create_population("p", budget)
        filters = Filters(budget, [0, 0])
        assert filters.order == balance.order
        assert filters.conversion == balance.conversion_nano
        charge = charge_for(mechanism, filters.order)
        charged = Charged.to(charge.reads, amount_of(charge))
        whole = charge.divergence_nano * mechanism.rounds
        times = 0
        while filters.reserve(0, whole):
            times += 1
        assert times == balance.times(charged * mechanism.rounds)
        filters.settle([0], charge.divergence_nano)
        assert filters.epsilon_spent()[0] == (charge.divergence_nano + balance.conversion_nano) / NANO
        assert filters.epsilon_spent()[1] == 0


def test_a_study_runs_at_simulated_hospitals_and_touches_nothing(study: Any, hospitals: Any) -> None:
    for hospital in hospitals.values():
        hospital.calls.clear()
    made = simulate(study, faults=NOTHING_WRONG, **SMALL)
    assert [told.answered for told in made.rounds] == [30, 30, 30]
    assert (made.approved, made.denied, made.without_budget) == (30, 0, 0)
    assert made.measure == "AUC"
    assert made.score == made.rounds[-1].score
    assert len(set(made.spent)) == 1
    assert "30 simulated hospitals: 30 took part" in str(made)
    assert not any(hospital.calls for hospital in hospitals.values())
    assert not study.state.directory.exists()


def test_a_model_learns_from_simulated_patients(study: Any) -> None:
    study.training = replace(TRAINING, rounds=8, steps=20, sampling_rate=0.3, epsilon=8.0, learning_rate=2.0)
    made = simulate(study, hospitals=60, patients=300, faults=NOTHING_WRONG, budget=PrivacyBudget(20.0, 1e-5))
    study.training = replace(study.training, learning_rate=1e-6)
    untrained = simulate(study, hospitals=60, patients=300, faults=NOTHING_WRONG, budget=PrivacyBudget(20.0, 1e-5))
    assert made.score is not None
    assert untrained.score is not None
    assert made.score > 0.68
    assert untrained.score < 0.62


def test_the_same_seed_is_the_same_simulation_and_another_is_not(study: Any) -> None:
    one, same, other = (simulate(study, seed=seed, **SMALL) for seed in (1, 1, 2))
    for name in one.weights:
        assert (one.weights[name] == same.weights[name]).all()
    assert any((one.weights[name] != other.weights[name]).any() for name in one.weights)
    assert [told.answered for told in one.rounds] == [told.answered for told in same.rounds]


def test_who_does_not_answer_pays_nothing_and_who_is_late_pays_and_is_left_out(study: Any) -> None:
    every = simulate(study, faults=NOTHING_WRONG, **SMALL).spent[0]
    dropping = simulate(study, faults=replace(NOTHING_WRONG, dropping=0.4), **SMALL)
    assert min(dropping.spent) < every
    assert sum(told.dropped for told in dropping.rounds) == sum(30 - told.answered for told in dropping.rounds) > 0
    late = simulate(study, faults=replace(NOTHING_WRONG, straggling=0.4), **SMALL)
    assert set(late.spent) == {every}
    assert sum(told.late for told in late.rounds) == sum(30 - told.answered for told in late.rounds) > 0


def test_late_releases_enter_the_next_round_where_that_is_asked_for(study: Any) -> None:
    faults = replace(NOTHING_WRONG, straggling=0.4)
    left_out, kept = simulate(study, faults=faults, **SMALL), simulate(study, faults=faults, late=True, **SMALL)
    assert kept.rounds[0].answered == left_out.rounds[0].answered  # nobody is late before the first
    assert sum(told.answered for told in kept.rounds) > sum(told.answered for told in left_out.rounds)
    assert max(kept.spent) <= max(left_out.spent)  # who runs an earlier round is not asked for another one
    assert min(kept.spent) < min(left_out.spent)
    assert any((kept.weights[name] != left_out.weights[name]).any() for name in kept.weights)


def test_owners_deny_and_budgets_that_are_spent_hold_no_training(study: Any) -> None:
    denied = simulate(study, faults=replace(NOTHING_WRONG, denying=0.5), **SMALL)
    assert 0 < denied.denied == 30 - denied.approved
    short = simulate(study, faults=replace(NOTHING_WRONG, spent=1.0), budget=PrivacyBudget(3.0, 1e-5), **SMALL)
    assert 0 < short.without_budget == 30 - short.approved
    assert max(short.spent) <= 3.0
    with pytest.raises(Unavailable, match="No hospital took part: 30 owners denied"):
        simulate(study, faults=replace(NOTHING_WRONG, denying=1.0), **SMALL)


def test_a_round_below_the_quorum_ends_the_simulation(study: Any) -> None:
    with pytest.raises(Unavailable, match=r"Round 1 has \d+ of the 30 hospitals that it needs: \d+ did not answer"):
        simulate(study, faults=replace(NOTHING_WRONG, dropping=0.5), min_train_nodes=30, **SMALL)


@pytest.mark.parametrize(
    "strategy", ["FedAdam", "FedMedian", FedAvg(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)]
)
def test_strategies_run_by_name_and_as_instances(study: Any, strategy: Any) -> None:
    assert len(simulate(study, strategy=strategy, **SMALL).rounds) == 3


@pytest.mark.parametrize("compression", ["int8", "int4"])
def test_whole_numbers_travel_between_simulated_hospitals_too(study: Any, compression: str) -> None:
    plain = simulate(study, faults=NOTHING_WRONG, **SMALL)
    study.training = replace(study.training, compression=compression)
    packed = simulate(study, faults=NOTHING_WRONG, **SMALL)
    for name, value in plain.weights.items():
        assert 0 < np.abs(packed.weights[name] - value).max() < 0.2


def test_patients_come_from_a_public_table_or_a_function(study: Any) -> None:
    table = pd.DataFrame({"age": [20, 30], "temperature": [37.0, 39.0], "influenza": [False, True]})
    source = Source(study.cohort.schema, study.training, 0, table=None)
    assert len(source.rows(0, 10).targets) == 10
    made = simulate(study, table=table, faults=NOTHING_WRONG, **SMALL)
    assert len(made.rounds) == 3
    asked: list[int] = []

    def patients(hospital: int, count: int, generator: np.random.Generator) -> pd.DataFrame:
        asked.append(hospital)
        return table.iloc[generator.integers(0, 2, count)]

    simulate(study, population=patients, faults=NOTHING_WRONG, **SMALL)
    assert sorted(asked) == list(range(30))
    with pytest.raises(InvalidRequest, match="lacks the schema's temperature, influenza"):
        simulate(study, table=table[["age"]], **SMALL)
    with pytest.raises(InvalidRequest, match="gave 1 of"):
        simulate(study, population=lambda *_: table.iloc[:1], **SMALL)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hospitals": 0}, r"hospitals=0 is outside \[1, 100000\]"),
        ({"patients": 5}, r"patients=5 is outside \[20, 1000000\]"),
        ({"hospitals": 100_000, "patients": 100_000}, "Give fewer hospitals or patients"),
        ({"strategy": "QFedAvg", **SMALL}, "training loss, which is private"),
        ({"strategy": "FedAdam", "eta_l": 0.3, **SMALL}, "which no hospital reads"),
    ],
)
def test_what_cannot_be_simulated_is_refused(study: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        simulate(study, **options)


def test_other_studies_and_losses_are_refused_by_name(study: Any, network: Any) -> None:
    with pytest.raises(InvalidRequest, match="Only studies that train a model"):
        simulate(network.dataset("flu").statistics(count=True, epsilon=0.1), **SMALL)
    hazards = replace(TRAINING, loss="discrete_hazards", target=("age", "influenza"), horizon=50.0)
    with pytest.raises(InvalidRequest, match="with the loss discrete_hazards is not simulated"):
        Source(network.dataset("flu").schema, hazards, 0)
    study.training = replace(TRAINING, local=("hidden.*",), public_weights="0" * 64)
    with pytest.raises(InvalidRequest, match="Local parameters are not simulated"):
        simulate(study, **SMALL)


class OneAtATime(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(x.sum().item())


def test_a_model_that_torch_computes_one_at_a_time_is_refused_in_words(network: Any, tmp_path: Path) -> None:
    study = researcher.Study("one", network.dataset("flu"), OneAtATime, TRAINING, state=tmp_path / "o", progress=False)
    with pytest.raises(InvalidRequest, match="OneAtATime cannot be simulated"):
        simulate(study, **SMALL)


def test_area_is_the_chance_of_the_right_order() -> None:
    assert area(np.array([0.1, 0.4, 0.35, 0.8], np.float32), np.array([False, False, True, True])) == 0.75
    assert area(np.zeros(4, np.float32), np.array([False, True, True, False])) == 0.5
    assert area(np.zeros(2, np.float32), np.array([True, True])) == 0.5


STUDY = """
import researcher
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        return self.layer(x).sigmoid()


flu = researcher.connect("nowhere.toml").dataset("flu")
training = researcher.Training(
    loss="binary_cross_entropy", rounds=2, steps=2, sampling_rate=0.2, clipping_norm=1.0, epsilon=1.0, learning_rate=0.5
)
study = researcher.Study("flu", flu, Net, training)
"""


def test_the_command_simulates_where_nobody_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.py").write_text(STUDY)
    Path("schema.toml").write_text(SCHEMA.format(population="patients", oldest=110))
    Path("public.csv").write_text("age,temperature,influenza\n30,37,false\n60,39,true\n")
    Path("patients.py").write_text(
        "import pandas as pd\n\ndef patients(hospital, count, generator):\n"
        "    ages = generator.integers(0, 99, count)\n"
        "    return pd.DataFrame({'age': ages, 'temperature': 37.0, 'influenza': ages > 50})\n"
    )
    before = researcher.connect
    options = ["--schema", "schema.toml", "--hospitals", "40", "--patients", "50", "--quorum", "2"]
    for more in ([], ["--table", "public.csv"], ["--population", "patients.py:patients"]):
        ran = CliRunner().invoke(app, ["simulate", "study.py", *options, *more])
        assert ran.exit_code == 0, ran.output
        assert "40 simulated hospitals" in ran.output
        assert "Nobody was asked and nothing was charged." in ran.output
    assert researcher.connect is before
    assert not Path(".researcher").exists()
    for bad, said in (
        (["--schema", "none.toml"], "none.toml cannot be read"),
        (["--table", "none.csv"], "none.csv cannot be read"),
        (["--population", "patients.py:nobody"], "has no function 'nobody'"),
        (["--population", "patients"], "names no file"),
    ):
        refused = CliRunner().invoke(app, ["simulate", "study.py", *options, *bad])
        assert said in str(refused.exception)
