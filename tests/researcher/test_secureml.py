"""SecureML's call trains privately here or becomes a study; what it cannot honour is refused by name, and first."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from torch import nn

from policies.errors import DatasiteError, InvalidRequest, UnsupportedMechanism
from policies.release.certificates import verify
from researcher import local_datasites, secureml
from researcher.secureml import differentially_private_train, start_federated_client
from researcher.studies import Study
from tests.researcher.flower_server import ServerProcess

COLUMNS = 6
BOUNDS = (0.0, 4000.0)


def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(COLUMNS, 8), nn.ReLU(), nn.Linear(8, 2))


def frame() -> pd.DataFrame:
    table = load_breast_cancer(as_frame=True).frame
    return table[[*table.columns[:COLUMNS], "target"]]


def bounds() -> dict[str, tuple[float, float]]:
    """As a clinician would say them, with room."""
    limits = ((5, 30), (5, 45), (30, 220), (100, 3000), (0, 0.2), (0, 0.5))
    return dict(zip(frame().columns, limits, strict=False))


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("nothing may start before an argument is refused")

    monkeypatch.setattr(secureml, "local_datasite", refuse)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("framework", "jax", "framework='jax' is not taken"),
        ("shuffle", False, "shuffle=False is not taken"),
        ("metrics", ["f1"], "metrics='f1' is not taken"),
        ("validation_split", 0.9, "validation_split=0.9 is outside [0, 0.5]"),
        ("callbacks", [], "callbacks=[] is not taken. No code of yours runs"),
        ("num_microbatches", 16, "num_microbatches=16 is not taken"),
        ("something", 1, "something=1 is not taken. It is no argument here."),
        ("epochs", 0, "epochs=0 is outside"),
        ("batch_size", -1, "batch_size=-1 is outside"),
        ("max_grad_norm", 0, "clipping_norm=0 is outside"),
        ("epsilon", -1.0, "epsilon=-1.0 is outside"),
        ("optimizer", "rmsprop", "optimizer='rmsprop' is not known"),
        ("criterion", nn.CrossEntropyLoss(reduction="sum"), "CrossEntropyLoss(reduction='sum') is not taken"),
        ("loss", "hinge", "loss='hinge' is not known"),
        ("noise_multiplier", 0.3, "noise_multiplier=0.3 costs"),
        ("target_column", "height", "target_column='height' is no column"),
        ("bounds", None, "bounds of 'mean radius'"),
    ],
)
def test_an_argument_that_cannot_be_honoured_is_refused_by_name(
    nothing_starts: None, argument: str, value: Any, said: str
) -> None:
    with pytest.raises(DatasiteError) as refused:
        differentially_private_train(model(), frame(), **{"bounds": bounds(), argument: value})
    assert said in str(refused.value)


def test_early_stopping_without_rows_that_validate_is_refused(nothing_starts: None) -> None:
    with pytest.raises(UnsupportedMechanism, match="early_stopping_patience needs rows"):
        differentially_private_train(model(), frame(), bounds=bounds(), early_stopping_patience=2, validation_split=0)


def test_a_model_of_one_output_is_told_which_loss_it_wants(nothing_starts: None) -> None:
    with pytest.raises(UnsupportedMechanism, match=r"criterion=nn\.BCEWithLogitsLoss"):
        differentially_private_train(nn.Linear(COLUMNS, 1), frame(), bounds=bounds())


def test_a_model_of_other_inputs_is_refused(nothing_starts: None) -> None:
    with pytest.raises(InvalidRequest, match="does not take a row's 6 numbers"):
        differentially_private_train(nn.Linear(5, 2), frame(), bounds=bounds())


def test_without_the_engine_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_datasites.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match=r'pip install "private-datasites\[datasite,researcher\]"'):
        differentially_private_train(model(), frame(), bounds=bounds(), ledger=tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_a_hospitals_cohort_becomes_a_study(network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = differentially_private_train(
        nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), network.dataset("flu"), epsilon=2.0, criterion=nn.BCELoss(),
        epochs=4, batch_size=80, name="flu-2026",
    )  # fmt: skip
    assert isinstance(study, Study)
    assert (study.training.rounds, study.training.steps, study.training.sampling_rate) == (4, 10, 0.1)
    assert (study.training.epsilon, study.training.optimizer, study.training.clipping_norm) == (2.0, "adam", 1.0)
    with pytest.raises(UnsupportedMechanism, match="target_column='x' is not taken with a hospital's data"):
        differentially_private_train(model(), network.dataset("flu"), name="flu", target_column="x")
    with pytest.raises(UnsupportedMechanism, match="name=None is not taken with hospitals"):
        differentially_private_train(model(), network.dataset("flu"))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("secureml") / "ledger"
    yield folder
    for path, datasite in list(local_datasites._serving.items()):
        datasite.stop()
        del local_datasites._serving[path]


def trained(ledger: Path, **options: Any) -> Any:
    settings = {"epochs": 5, "batch_size": 64, "learning_rate": 0.05, "validation_split": 0, "verbose": True}
    return differentially_private_train(
        model(), frame(), **{"epsilon": 2.0, "bounds": bounds(), "ledger": ledger, **settings, **options}
    )


def ledger_says(ledger: Path) -> str:
    command = [sys.executable, "-m", "datasites", "ledger", "--verify", "--dir", str(ledger / "datasite")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
@pytest.mark.slow
def test_it_trains_like_opacus_leaves_a_ledger_and_is_paid_for_once(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: value.clone() for name, value in model().state_dict().items()}
    mine = model()
    ours = trained(ledger)
    said = capsys.readouterr().err
    # 5 passes in batches of 64 at ε = 2 in all: what is spent grows with every epoch and ends just below 2.
    spent = [float(line.split("ε = ")[1].split()[0]) for line in said.splitlines() if line.startswith("epoch ")]
    assert len(spent) == 5
    assert spent == sorted(spent)
    assert 1.9 < spent[-1] <= 2.0
    assert ours.secureml.epsilon <= 2.0
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())  # theirs is as it was

    (*_, last) = ours.secureml.certificates
    assert len(ours.secureml.certificates) == 5
    assert verify(last, release=None)
    chances = ours.predict(frame())
    assert chances.shape == (569, 2)
    area = roc_auc_score(frame()["target"], chances[:, 1])
    assert abs(area - stock_opacus()) < 0.05

    assert ours.secureml.ledger.exists()
    first = spent_of(ours)
    assert first >= 2.0  # at the one order that the ledger of ε = 10 adds up at, not at this training's own best
    again = trained(ledger)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())
    assert spent_of(again) == first  # the same call costs nothing
    assert "nothing is paid again" in capsys.readouterr().err
    assert spent_of(trained(ledger, seed=1, epsilon=1.0)) > first
    assert "The ledger verifies" in ledger_says(ledger)
    with pytest.raises(DatasiteError, match="short of the hospital's budget"):
        trained(ledger, seed=2, epsilon=30.0)


def spent_of(model: Any) -> float:
    """ε that the ledger has charged to the rows in all."""
    (budget,) = model.secureml.result.study.cohort.budget.values()
    return float(budget["epsilon"] - budget["epsilon_remaining"])


def stock_opacus() -> float:
    """AUC of the same model, trained by Opacus itself at the same ε, on the same scaled inputs."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    table, limits = frame(), bounds()
    scaled = np.stack(
        [(table[name] - low) / (high - low) * 2 - 1 for name, (low, high) in limits.items()], axis=1
    ).astype(np.float32)
    inputs, labels = torch.from_numpy(np.clip(scaled, -1, 1)), torch.from_numpy(table["target"].to_numpy())
    areas = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(3):
            torch.manual_seed(seed)
            net = model()
            optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
            private, stepping, loader = PrivacyEngine().make_private_with_epsilon(
                module=net, optimizer=optimizer, data_loader=DataLoader(TensorDataset(inputs, labels), batch_size=64),
                target_epsilon=2.0, target_delta=1e-5, epochs=5, max_grad_norm=1.0,
            )  # fmt: skip
            for _ in range(5):
                for x, y in loader:
                    stepping.zero_grad()
                    nn.functional.cross_entropy(private(x), y).backward()
                    stepping.step()
            with torch.no_grad():
                areas.append(roc_auc_score(labels, private(inputs).softmax(1)[:, 1]))
    return float(np.mean(areas))


@pytest.mark.process
@pytest.mark.slow
def test_validation_is_charged_and_early_stopping_gives_back_what_it_leaves(ledger: Path) -> None:
    with pytest.raises(
        UnsupportedMechanism, match=r"validation_split=0\.3 is not taken: this ledger's rows were split"
    ):
        trained(ledger, validation_split=0.3)
    ledger = ledger.with_name("validated")
    stopping = {"validation_split": 0.3, "early_stopping_patience": 1, "epochs": 12}
    validated = trained(
        ledger, epsilon=3.0, learning_rate=1e-7, **stopping
    )  # it learns nothing: scores are noise alone
    history = validated.secureml.history
    assert set(history) == {"AUC", "accuracy"}
    assert set(history["AUC"]) == set(range(1, validated.secureml.epochs + 1))
    result = validated.secureml.result
    # Twelve scores that are noise rise twelve times in a row once in 479,001,600 times.
    assert validated.secureml.epochs < 12
    assert "accuracy" in result.ended or "AUC" in result.ended
    assert validated.secureml.epsilon < 3.0  # what was not trained was not spent
    held_out = [json.loads(text) for text in validated.secureml.certificates if "evaluation" in text]
    assert held_out  # scores are releases with certificates of their own
    assert "The ledger verifies" in ledger_says(ledger)


@pytest.mark.process
@pytest.mark.slow
def test_a_ledgers_directory_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("Dear ...")
    with pytest.raises(InvalidRequest, match="holds something else than a ledger"):
        trained(tmp_path / "letters")
    assert json.dumps([path.name for path in (tmp_path / "letters").iterdir()]) == '["one.txt"]'


@pytest.mark.process
@pytest.mark.slow
def test_a_keras_model_comes_back_as_it_was_compiled_and_trained(ledger: Path) -> None:
    from tests.researcher.keras_package import keras

    keras.utils.set_random_seed(0)
    mine = keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
    mine.compile(optimizer=keras.optimizers.Adam(0.05), loss="binary_crossentropy", metrics=["accuracy"])
    before = [array.copy() for array in mine.get_weights()]
    options = {"epsilon": 2.0, "bounds": bounds(), "ledger": ledger.with_name("keras"), "epochs": 5, "verbose": False}
    ours = differentially_private_train(mine, frame(), framework="keras", validation_split=0, **options)
    assert all(np.array_equal(then, now) for then, now in zip(before, mine.get_weights(), strict=True))
    assert type(ours) is type(mine)
    assert ours.get_compile_config() == mine.get_compile_config()
    chances = ours.predict(frame())
    assert chances.shape == (569, 1)
    training = ours.secureml.result.study.training
    assert (training.loss, training.optimizer, training.learning_rate) == ("binary_cross_entropy", "adam", 0.05)
    assert roc_auc_score(frame()["target"], chances[:, 0]) > 0.9
    # What its torch translation, which was trained, says of the same rows.
    inputs = torch.from_numpy(np.stack([scaled(name) for name in bounds()], axis=1))
    with torch.no_grad():
        theirs = ours.secureml.result.study.new_model(ours.secureml.result.weights).eval()(inputs).numpy()
    np.testing.assert_allclose(chances, theirs, rtol=1e-5, atol=1e-6)
    assert ours.secureml.epsilon <= 2.0
    assert verify(ours.secureml.certificates[-1], release=None)


def scaled(name: str) -> np.ndarray[Any, Any]:
    """A column from -1 to 1 by its bounds, as models get it."""
    low, high = bounds()[name]
    column = frame()[name].to_numpy()
    return (np.clip((column - low) / (high - low), 0, 1) * 2 - 1).astype(np.float32)


@pytest.mark.parametrize(
    ("layers", "compiled", "options", "said"),
    [
        ("Dense", {"loss": "mae"}, {}, r"compile\(loss='mae'\) is not taken"),
        ("Dense", {"loss": "mse", "metrics": ["cosine_similarity"]}, {}, "metrics='cosine_similarity' is not taken"),
        ("Dense", {"loss": "mse"}, {"framework": "pytorch"}, "framework='pytorch' is not taken with a model of Keras"),
        ("Dense", {"loss": "mse", "optimizer": "nadam"}, {}, r"optimizer='Nadam'\) is not taken"),
        ("BatchNormalization", {"loss": "mse"}, {}, "Use LayerNormalization or GroupNormalization"),
    ],
)
def test_what_a_keras_model_says_and_cannot_be_honoured_is_refused(
    nothing_starts: None, layers: str, compiled: Any, options: Any, said: str
) -> None:
    from tests.researcher.keras_package import keras

    middle = [keras.layers.Dense(3)] if layers == "Dense" else [keras.layers.BatchNormalization()]
    mine = keras.Sequential([keras.Input((COLUMNS,)), *middle, keras.layers.Dense(1)])
    mine.compile(**{"optimizer": "adam", **compiled})
    with pytest.raises(DatasiteError, match=said):
        differentially_private_train(mine, frame(), bounds=(0, 4000), **options)


def test_what_is_said_beside_a_compiled_model_wins(network: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from tests.researcher.keras_package import keras

    monkeypatch.chdir(tmp_path)
    mine = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid")])
    mine.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="binary_crossentropy")
    flu = network.dataset("flu")
    study = differentially_private_train(mine, flu, epsilon=2.0, epochs=4, batch_size=80, name="flu-2026")
    settings = study.training
    assert (settings.optimizer, settings.learning_rate, settings.momentum) == ("sgd", 0.1, 0.9)
    other = differentially_private_train(
        mine, flu, epsilon=2.0, epochs=4, batch_size=80, name="flu-2027", optimizer="adam", learning_rate=0.02
    )
    assert (other.training.optimizer, other.training.learning_rate, other.training.momentum) == ("adam", 0.02, 0.0)
    with pytest.raises(UnsupportedMechanism, match="are two"):
        differentially_private_train(
            nn.Linear(2, 1), flu, name="flu", learning_rate=0.5, loss="binary_cross_entropy_with_logits",
            optimizer=torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("apply_differential_privacy", False, "apply_differential_privacy=False is not taken. Weights tell of rows"),
        ("rounds", 0, "rounds=0 is outside [1, 1000]"),
        ("epochs", 0, "epochs=0 is outside"),
        ("epsilon", -1.0, "epsilon=-1.0 is outside"),
        ("noise_multiplier", 0.1, "noise_multiplier=0.1 costs"),
        ("server_address", "flower.example", "server_address='flower.example' is no host and port"),
        ("server_address", "flower.example:8080", "without a certificate anybody between reads"),
        ("client_id", 3, "client_id=3 is not taken. It is no argument here."),
        ("shuffle", False, "shuffle=False is not taken"),
        ("bounds", None, "bounds of 'mean radius'"),
    ],
)
def test_a_federated_client_refuses_by_name_what_it_cannot_honour(
    nothing_starts: None, argument: str, value: Any, said: str
) -> None:
    options = {"server_address": "localhost:8080", "bounds": bounds(), argument: value}
    with pytest.raises(DatasiteError) as refused:
        start_federated_client(model(), frame(), **options)
    assert said in str(refused.value)


def test_a_hospitals_dataset_has_no_rows_for_a_federated_client(nothing_starts: None, network: Any) -> None:
    with pytest.raises(UnsupportedMechanism, match="whose rows are not here"):
        start_federated_client(model(), network.dataset("flu"), "localhost:8080")


@pytest.mark.process
@pytest.mark.slow
def test_a_federated_client_spends_its_epsilon_over_all_rounds_and_no_more(ledger: Path, tmp_path: Path) -> None:
    ledger = ledger.with_name("federated")
    options = {"epsilon": 1.0, "learning_rate": 0.05, "epochs": 2, "bounds": bounds(), "ledger": ledger}
    # The server asks for five rounds; the noise was computed for three, and three are what it gets.
    with ServerProcess(tmp_path / "server", "--clients", "1", "--rounds", "5", "--lr", "0.05") as server:
        joined = start_federated_client(model(), frame(), server.address, **options)
        server.ended()
    told = [server.told(number)["told"][0] for number in (1, 2, 3)]
    assert [each["round"] for each in told] == [1, 2, 3]
    assert all("All 3 rounds that this machine approved are used" in server.told(n)["refused"][0] for n in (4, 5))
    spent = [each["epsilon"] for each in told]
    assert spent == sorted(spent)
    assert 0.95 < spent[-1] <= 1.0  # ε = 1 is for all three together
    assert joined.secureml.epsilon == spent[-1]
    assert joined.secureml.certificates == tuple(each["certificate"] for each in told)
    for certificate in joined.secureml.certificates:
        assert verify(certificate, release=None)
    for mine, theirs in zip(joined.state_dict().values(), server.aggregate(3), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)
    assert joined.predict(frame()).shape == (569, 2)
    first = spent_of(joined)
    assert "The ledger verifies" in ledger_says(ledger)
    # Another session of another server: ε is spent.
    with ServerProcess(tmp_path / "again", "--clients", "1", "--rounds", "1") as server:
        again = start_federated_client(model(), frame(), server.address, **options)
        server.ended()
    assert server.told(1)["told"][0]["certificate"] == told[0]["certificate"]  # the same weights, the same release
    assert spent_of(again) == first
    with pytest.raises(DatasiteError, match="short of the hospital's budget"):
        start_federated_client(model(), frame(), server.address, **{**options, "epsilon": 30.0})
