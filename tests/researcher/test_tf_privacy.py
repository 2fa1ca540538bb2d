"""TensorFlow Privacy in an environment of its own: what it is told, what is charged and when, and how it is installed.

The tests that need TensorFlow itself are nightly; the others speak the driver's protocol with a stand-in.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from policies.errors import BudgetTooSmall, InvalidRequest, UnsupportedMechanism
from policies.privacy.accountant import epsilon_of, resolve
from policies.privacy.mechanisms import DPSGD
from researcher import environments, tf_privacy
from researcher.secureml import differentially_private_train
from tests.researcher.keras_package import keras
from tests.researcher.test_secureml import COLUMNS, bounds, frame

L = keras.layers
FAKE = Path(__file__).with_name("fake_tf_driver.py")


def model(*layers: Any, optimizer: Any = None, loss: str = "binary_crossentropy") -> Any:
    made = keras.Sequential([keras.Input((COLUMNS,)), *(layers or (L.Dense(1, "sigmoid"),))])
    made.compile(optimizer=optimizer or keras.optimizers.Adam(0.05), loss=loss)
    return made


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Trainings through the stand-in, in a mode; its job is in `seen.json`."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plain = tf_privacy.train_there

    def train(mode: str = "trains", given: Any = None, **options: Any) -> Any:
        def there(*arguments: Any, **more: Any) -> Any:
            return plain(*arguments, **more, command=(sys.executable, str(FAKE), mode))

        monkeypatch.setattr("researcher.secureml.train_there", there)
        settings = {"epsilon": 2.0, "epochs": 3, "bounds": bounds(), "ledger": tmp_path / "ledger", "verbose": True}
        return differentially_private_train(
            given or model(), frame(), framework="tensorflow", **{**settings, **options}
        )

    return train


@pytest.mark.process
def test_what_it_costs_is_our_accountants_and_the_model_comes_back(
    fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = model()
    ours = fake(given=mine)
    job, files = json.loads((tmp_path / "seen.json").read_text())
    assert files == ["job.json", "probe.npz", "weights.npz"]  # no rows before the charge is written
    # 569 rows in batches of 64: 9 steps an epoch at q = 64/569, and a batch has places for ten deviations more.
    assert (job["steps"], job["epochs"], job["sampling_rate"]) == (9, 3, 64 / 569)
    assert job["places"] == math.ceil(64 + 10 * 8 + 20)
    declared = DPSGD(
        loss="binary_cross_entropy", rounds=3, steps=9, sampling_rate=64 / 569, clipping_norm=1.0, learning_rate=0.05,
        noise_multiplier=job["noise_multiplier"], delta=1e-5,
    )  # fmt: skip
    assert ours.secureml.epsilon == epsilon_of(resolve(declared), 1e-5)
    assert 1.9 < ours.secureml.epsilon <= 2.0
    (charge,) = map(json.loads, ours.secureml.ledger.read_text().splitlines())
    assert (charge["epsilon"], charge["steps"]) == (ours.secureml.epsilon, 27)
    assert type(ours) is type(mine)
    np.testing.assert_array_equal(ours.get_weights()[0], mine.get_weights()[0] + 1)
    assert ours.predict(frame()).shape == (569, 1)
    assert "epoch 3/3: ε = " in capsys.readouterr().err


@pytest.mark.process
def test_the_budget_of_all_trainings_is_kept(fake: Any) -> None:
    fake(budget_epsilon=5.0)
    fake(budget_epsilon=5.0)
    with pytest.raises(BudgetTooSmall, match=r"is short of the budget: (4|3\.\d+) of budget_epsilon=5 is spent"):
        fake(budget_epsilon=5.0)


def test_a_charge_is_written_within_the_budget_alone(tmp_path: Path) -> None:
    """Between a training's first look at the budget and its charge another one may have been written."""
    declared = DPSGD(
        loss="binary_cross_entropy", rounds=1, steps=1, sampling_rate=0.1, clipping_norm=1.0, learning_rate=0.1,
        noise_multiplier=2.0, delta=1e-5,
    )  # fmt: skip
    first, second = (tf_privacy.Charges(tmp_path / "ledger", 3.0) for _ in range(2))
    first.check(2.0)
    second.check(2.0)
    first.write(2.0, declared)
    with pytest.raises(BudgetTooSmall, match="2 of budget_epsilon=3 is spent"):
        second.write(2.0, declared)
    assert second.spent() == 2.0


@pytest.mark.process
@pytest.mark.parametrize(
    ("mode", "said", "charged"),
    [
        ("another-model", "makes another model of these layers than yours", False),
        ("fails", "ResourceExhaustedError: out of memory", True),
        ("not-finite", "not the model's, or not finite. The training is charged", True),
    ],
)
def test_a_failure_is_charged_once_rows_were_handed_over(
    fake: Any, tmp_path: Path, mode: str, said: str, charged: bool
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        fake(mode)
    assert (tmp_path / "ledger" / tf_privacy.CHARGES).exists() == charged
    assert list(tmp_path.glob("tf-privacy-*")) == []  # nothing of the rows is left


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"validation_split": 0.2}, "validation_split=0.2 is not taken with framework='tensorflow'"),
        ({"early_stopping_patience": 2}, "early_stopping_patience=2 is not taken with framework='tensorflow'"),
        (
            {"given": model(L.Dense(1, "exponential"), loss="poisson"), "bounds": (0, 4000)},
            "does not take loss='poisson'",
        ),
        ({"noise_multiplier": 0.3}, "noise_multiplier=0.3 costs"),
    ],
)
def test_what_it_has_not_is_refused_by_name(fake: Any, options: Any, said: str) -> None:
    with pytest.raises((UnsupportedMechanism, BudgetTooSmall), match=said):
        fake(**options)


def test_a_torch_model_and_a_hospital_are_refused(network: Any) -> None:
    from torch import nn

    with pytest.raises(UnsupportedMechanism, match="framework='tensorflow' is not taken with a PyTorch model"):
        differentially_private_train(nn.Linear(COLUMNS, 2), frame(), framework="tensorflow")
    with pytest.raises(UnsupportedMechanism, match="for tables of your own"):
        differentially_private_train(model(), network.dataset("flu"), framework="tensorflow", name="flu")


def test_a_datasites_ledger_is_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "datasite").mkdir()
    with pytest.raises(InvalidRequest, match="Give another ledger; what a row loses in both adds up"):
        tf_privacy.Charges(tmp_path, 10.0)


def test_without_the_environment_it_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(InvalidRequest, match="researcher environments setup-tf-privacy"):
        differentially_private_train(
            model(), frame(), framework="tensorflow", bounds=bounds(), ledger=tmp_path / "ledger"
        )
    assert not (tmp_path / "ledger").exists()


def test_every_package_is_pinned_by_hashes() -> None:
    lines = [line for line in environments.LOCK.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    packages = environments.locked_packages()
    assert (packages["tensorflow-cpu"], packages["tensorflow-privacy"]) == ("2.15.1", "0.9.0")
    assert len(packages) == len(lines)


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(environments.platform, "system", lambda: "Linux")
    monkeypatch.setattr(environments.platform, "machine", lambda: "x86_64")


def test_installing_shows_progress_takes_hashes_alone_and_is_done_once(
    linux: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], told: Any) -> None:
        commands.append(command)
        place = environments.place()
        (place / "bin").mkdir(parents=True, exist_ok=True)
        (place / "bin" / "python").touch()
        told("Collecting absl-py==1.4.0 (from -r lock)\n")
        told("Processing /wheels/tensorflow_privacy-0.9.0-py3-none-any.whl\n")
        told("Installing collected packages: absl-py\n")

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "_says", lambda python, code: "3.11" if "version_info" in code else "2.15.1")
    (tmp_path / "wheels").mkdir()
    said: list[str] = []
    where, version = environments.set_up_tf_privacy(said.append, wheels=tmp_path / "wheels")
    assert version == "2.15.1"
    total = len(environments.locked_packages())
    assert said[1:] == [f"1 of {total}: absl-py 1.4.0", f"2 of {total}: tensorflow-privacy 0.9.0", said[-1]]
    install = commands[-1]
    assert {"--require-hashes", "--no-deps", "--no-index", "--find-links"} <= set(install)
    assert environments.tf_privacy() == where / "bin" / "python"
    commands.clear()
    environments.set_up_tf_privacy(said.append)
    assert commands == []


def test_an_installation_that_fails_leaves_nothing_and_says_how_without_a_network(
    linux: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], told: Any) -> None:
        environments.place().mkdir(parents=True, exist_ok=True)
        if "pip" in command:
            raise InvalidRequest("python ended with 1: ERROR: no network.")

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "_says", lambda python, code: "3.11")
    with pytest.raises(InvalidRequest, match=r"no network.*pip download --no-deps --require-hashes.*--wheels wheels"):
        environments.set_up_tf_privacy(lambda line: None)
    assert not environments.place().exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"python": "/nowhere/python"}, "--python /nowhere/python is none"),
        ({"wheels": Path("/nowhere")}, "--wheels /no"),
    ],
)
def test_what_cannot_be_set_up_is_said(linux: None, monkeypatch: Any, options: Any, said: str) -> None:
    monkeypatch.setattr(environments, "_says", lambda python, code: "")
    with pytest.raises(InvalidRequest, match=said):
        environments.set_up_tf_privacy(lambda line: None, **options)


def test_another_system_is_told_what_works_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.platform, "system", lambda: "Darwin")
    with pytest.raises(InvalidRequest, match=r"this is Darwin .* framework='keras'"):
        environments.set_up_tf_privacy(lambda line: None)


@pytest.fixture(scope="module")
def installed() -> Path:
    """TensorFlow Privacy's environment, made where it is not there; skipped where no index has its packages."""
    try:
        environments.set_up_tf_privacy(print)
    except InvalidRequest as refused:
        pytest.skip(str(refused))
    return environments.tf_privacy()


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.slow
def test_it_trains_as_our_engine_does_at_the_same_epsilon(installed: Path, tmp_path: Path) -> None:
    """AUC of both, each the mean of three trainings at ε = 2; a single one varies by about 0.02."""
    options = {"epsilon": 2.0, "bounds": bounds(), "epochs": 5, "verbose": False, "budget_epsilon": 30.0}
    areas: dict[str, list[float]] = {"tensorflow": [], "keras": []}
    for framework, found in areas.items():
        for seed in range(3):
            keras.utils.set_random_seed(seed)
            mine = model(L.Dense(8, "relu"), L.Dense(1, "sigmoid"))
            split = {} if framework == "tensorflow" else {"validation_split": 0}
            ours = differentially_private_train(
                mine, frame(), framework=framework, ledger=tmp_path / framework, **options, **split
            )
            assert ours.secureml.epsilon <= 2.0
            found.append(float(roc_auc_score(frame()["target"], ours.predict(frame())[:, 0])))
    theirs, ours_mean = (float(np.mean(found)) for found in areas.values())
    assert min(theirs, ours_mean) > 0.85
    assert abs(theirs - ours_mean) < 0.06


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.slow
def test_the_noise_that_is_added_is_the_noise_that_was_accounted(installed: Path, tmp_path: Path) -> None:
    """One step of SGD at rate 1 moves each of 2,800 weights by noise of deviation σ·C/B, and by nothing else."""
    mine = model(L.Dense(400, use_bias=False), L.Dense(1, "sigmoid", use_bias=False), optimizer="sgd")
    mine.set_weights([np.zeros_like(array) for array in mine.get_weights()])
    # With all weights 0 no gradient reaches any of them: what moves them is noise alone.
    ours = differentially_private_train(
        mine, frame(), framework="tensorflow", ledger=tmp_path / "noise", bounds=bounds(), epochs=1, batch_size=569,
        epsilon=1.0, max_grad_norm=1.0, learning_rate=1.0, verbose=False,
    )  # fmt: skip
    moved = np.concatenate([array.ravel() for array in ours.get_weights()])  # 2,800 draws
    wanted = ours.secureml.noise_multiplier * 1.0 / 569
    assert abs(moved.std() / wanted - 1) < 0.08  # a deviation of 1.3 %, six times over


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.slow
def test_an_lstm_trains_there_too(installed: Path, tmp_path: Path) -> None:
    sgd = keras.optimizers.SGD(0.5, momentum=0.5)
    mine = model(
        L.Reshape((COLUMNS, 1)), L.LSTM(4), L.LayerNormalization(), L.Dense(2, "softmax"),
        optimizer=sgd, loss="sparse_categorical_crossentropy",
    )  # fmt: skip
    ours = differentially_private_train(
        mine, frame(), framework="tensorflow", ledger=tmp_path / "lstm", bounds=bounds(), epochs=1, verbose=False
    )
    assert ours.predict(frame()).shape == (569, 2)
    assert not np.array_equal(ours.get_weights()[0], mine.get_weights()[0])


@pytest.mark.process
def test_the_driver_imports_nothing_of_ours() -> None:
    text = tf_privacy.DRIVER.read_text()
    assert "import policies" not in text
    assert "from policies" not in text
    assert "from researcher" not in text
    assert "pickle" not in text.replace("allow_pickle=False", "").replace("Nothing is pickled", "")
    code = "import researcher.tf_privacy, researcher.environments, sys; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_lock_is_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "tf-privacy.lock"
    other.write_text("tensorflow-cpu==2.15.1 --hash=sha256:00\n")
    before = environments.place()
    monkeypatch.setattr(environments, "LOCK", other)
    assert environments.place() != before
    assert hashlib.sha256(other.read_bytes()).hexdigest()[:12] in environments.place().name
