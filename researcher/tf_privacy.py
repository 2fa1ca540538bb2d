"""Train a Keras model on a table of one's own with TensorFlow Privacy, in its own environment.

`differentially_private_train(model, table, framework="tensorflow", ...)`. The environment is made once by `researcher
environments setup-tf-privacy`; JSON and npz go in and out. What it costs is computed by our accountant from the
declaration, before it runs: the noise that the asked ε needs at this sampling rate and so many steps is what TensorFlow
Privacy is told to add. Its charge is written down before rows are handed over, and stays where it fails after that.

What the datasite's engine has and this has not: a certificate, validation that is charged, noise of a secure generator
(TensorFlow draws floating-point numbers of Philox). So `framework="keras"` is what to use unless TensorFlow's own
optimizer is what is asked for.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from policies.errors import BudgetTooSmall, InvalidRequest, UnsupportedMechanism
from policies.privacy.accountant import epsilon_of, resolve
from policies.privacy.mechanisms import DPSGD
from policies.privacy.outcomes import OUTCOMES, Outcome
from policies.schema.targets import natural
from researcher.environments import tf_privacy
from researcher.keras import layers_of
from researcher.keras_layers import plain_options
from researcher.keras_training import copy_of
from researcher.local_tables import LocalTable

DRIVER = Path(__file__).with_name("tf_privacy_driver.py")
CHARGES = "tensorflow-privacy.jsonl"
PROBES = 8  # made-up rows at which both Kerases have to agree
CLOSE = 1e-4
_LOSSES = {
    "binary_cross_entropy": "binary",
    "binary_cross_entropy_with_logits": "binary",
    "cross_entropy": "classes",
    "mean_squared_error": "mean_squared_error",
}


@dataclass(frozen=True)
class TrainedThere:
    """What a training by TensorFlow Privacy was and cost; `model.secureml`.

    Args:
      epsilon, delta: what each row has lost by it, by our accountant.
      epochs: that were trained.
      noise_multiplier: that TensorFlow Privacy was told to add.
      ledger: the file with every charge of such trainings.
    """

    epsilon: float
    delta: float
    epochs: int
    noise_multiplier: float
    ledger: Path


def train_there(
    model: Any,
    table: LocalTable,
    training: DPSGD,
    *,
    ledger: Path,
    budget_epsilon: float,
    say: Callable[[str], None],
    command: tuple[str, ...] | None = None,
) -> Any:
    """A copy of the Keras model, trained, with `predict` and `secureml`.

    Args:
      training: a round for each epoch.
      ledger: directory of the file of charges.
      budget_epsilon: ε that all trainings in this directory may cost together, added up.
      say: is given a line for each epoch.
      command: what speaks the driver's protocol, where it is not the environment's Python with the driver.

    Raises:
      InvalidRequest: the environment is not there, or its Keras says something else of made-up rows than the model.
      UnsupportedMechanism: a loss or setting that TensorFlow Privacy's optimizers have not.
      BudgetTooSmall: what is left of `budget_epsilon` does not hold it.
    """
    job = _job(model, training, len(table.frame))
    resolved = resolve(training)
    assert isinstance(resolved, DPSGD)
    start = command or (str(tf_privacy()), "-I", str(DRIVER))
    charges = Charges(ledger, budget_epsilon)
    spent = epsilon_of(resolved, training.delta)
    charges.check(spent)
    with tempfile.TemporaryDirectory(prefix="tf-privacy-") as name:
        folder = Path(name)
        probe = np.random.default_rng(0).uniform(-1, 1, (PROBES, *job["input_shape"])).astype(np.float32)
        inputs = table.inputs(table.frame.rename(columns=dict(table.names)))
        targets = _targets(table, training)
        (folder / "job.json").write_text(json.dumps(job | {"noise_multiplier": resolved.noise_multiplier}))
        np.savez(folder / "probe.npz", inputs=probe)
        np.savez(folder / "weights.npz", **{str(n): array for n, array in enumerate(_weights(model))})
        with _driver(start, folder) as driver:
            theirs = np.asarray(driver.line("outputs"), dtype=np.float64)
            ours = np.asarray(model.predict(probe, verbose=0), dtype=np.float64)
            if theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=CLOSE, atol=CLOSE):
                raise InvalidRequest(
                    "TensorFlow 2.15 makes another model of these layers than yours: made-up rows come out otherwise."
                    " No row was read, nothing is charged. Train with framework='keras'."
                )
            charges.write(spent, resolved)  # before rows are handed over, so that no end of it gives them away free
            np.savez(folder / "rows.npz", inputs=inputs, targets=targets)
            driver.send("train")
            for epoch in range(1, training.rounds + 1):
                if driver.line("epoch") != epoch:
                    raise InvalidRequest(
                        "TensorFlow Privacy's program does not say its epochs in order. It is charged."
                    )
                so_far = epsilon_of(resolved, training.delta, epoch)
                say(f"epoch {epoch}/{training.rounds}: ε = {so_far:.3f} spent (δ = {training.delta:g})")
            driver.line("done")
        arrays = _trained(folder / "trained.npz", _weights(model))
    return _returned(model, arrays, table, training, TrainedThere(
        spent, training.delta, training.rounds, float(resolved.noise_multiplier or 0), charges.path,
    ))  # fmt: skip


class Charges:
    """The file of what trainings by TensorFlow Privacy have cost the rows of a directory: ε and δ are added up."""

    def __init__(self, directory: Path, budget: float) -> None:
        if (directory / "datasite").exists():
            raise InvalidRequest(
                f"ledger={str(directory)!r} is a datasite's, which does not add up what TensorFlow Privacy spends. Give"
                " another ledger; what a row loses in both adds up."
            )
        self.path, self._budget = directory / CHARGES, budget

    def spent(self) -> float:
        """ε of all trainings so far. Raises `InvalidRequest` where the file cannot be read."""
        if not self.path.exists():
            return 0.0
        try:
            lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            return math.fsum(float(line["epsilon"]) for line in lines)
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest(f"{self.path} is no file of charges any more. Give another ledger.") from None

    def check(self, epsilon: float) -> None:
        """Raise `BudgetTooSmall` where the budget does not hold it."""
        spent = self.spent()
        if spent + epsilon > self._budget:
            raise BudgetTooSmall(
                f"epsilon={epsilon:.3g} is short of the budget: {spent:.3g} of budget_epsilon={self._budget:g} is spent"
                f" by trainings in {self.path}. Ask for less, or raise budget_epsilon knowingly."
            )

    def write(self, epsilon: float, resolved: DPSGD) -> None:
        """One more charge, on disk when this returns; two at a time are one after the other, each within the budget."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        told = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "epsilon": epsilon,
            "delta": resolved.delta,
            "noise_multiplier": resolved.noise_multiplier,
            "sampling_rate": resolved.sampling_rate,
            "steps": resolved.steps * resolved.rounds,
        }
        with FileLock(self.path.with_suffix(".lock"), mode=0o600), self.path.open("a", encoding="utf-8") as file:
            self.check(epsilon)
            file.write(json.dumps(told) + "\n")
            file.flush()
            os.fsync(file.fileno())


class _Driver:
    """The program in the environment, line by line."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running

    def line(self, name: str) -> Any:
        """The value of its next line, which has to be of that name. Raises `InvalidRequest` with what it says."""
        assert self._running.stdout is not None
        text = self._running.stdout.readline(100_000_000)
        try:
            told = json.loads(text)
            value = told.get("error") if "error" in told else told[name]
        except (ValueError, KeyError, AttributeError):
            raise InvalidRequest(f"TensorFlow Privacy's program ended, or said {text[:80]!r} for {name!r}.") from None
        if "error" in told:
            raise InvalidRequest(f"TensorFlow Privacy: {str(value)[:400]}")
        return value

    def send(self, word: str) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(word + "\n")
        self._running.stdin.flush()


@contextmanager
def _driver(command: tuple[str, ...], folder: Path) -> Iterator[_Driver]:
    """It runs in the job's folder, without this program's environment, and ends with the block."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    running = subprocess.Popen(
        [*command, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean, cwd=folder,
    )  # fmt: skip
    try:
        yield _Driver(running)
    finally:
        running.kill()
        running.communicate()


def _job(model: Any, training: DPSGD, rows: int) -> dict[str, Any]:
    """What the driver is told. Raises `UnsupportedMechanism` for what TensorFlow Privacy has not."""
    loss = _LOSSES.get(training.loss)
    if loss is None or training.class_weights or training.weight_decay:
        what = f"loss={training.loss!r}" if loss is None else "class weights or weight decay"
        raise UnsupportedMechanism(f"framework='tensorflow' does not take {what}. Use framework='keras'.")
    layers = layers_of(model)
    last = layers[-1].made.activation
    if loss == "classes" and last not in ("softmax", "linear"):
        raise UnsupportedMechanism(f"cross_entropy does not go with a model that ends in {last!r}. Use 'softmax'.")
    batch = training.sampling_rate * rows
    return {
        "input_shape": [int(size) for size in model.input_shape[1:]],
        "layers": [
            {"class": type(layer.layer).__name__, "config": plain_options(layer.layer.get_config())} for layer in layers
        ],
        "loss": loss,
        "from_logits": last not in ("softmax", "sigmoid"),
        "optimizer": training.optimizer,
        "rate": training.learning_rate,
        "momentum": training.momentum,
        "clipping_norm": training.clipping_norm,
        "sampling_rate": training.sampling_rate,
        "batch": batch,
        # Ten deviations above the expected batch: a Poisson sample has more once in 10^23 times.
        "places": min(rows, math.ceil(batch + 10 * math.sqrt(batch) + 20)),
        "steps": training.steps,
        "epochs": training.rounds,
    }


def _weights(model: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(array) for layer in layers_of(model) for array in layer.layer.get_weights()]


def _targets(table: LocalTable, training: DPSGD) -> np.ndarray[Any, Any]:
    """A column of class numbers, or of a number scaled by its bounds as the datasite's engine does."""
    column = table.schema.column(str(table.schema.target))
    cells = table.frame[column.name]
    if OUTCOMES[training.loss] is Outcome.NUMBER:
        low, high = column.low, column.high
        values = (np.clip(np.asarray(cells, np.float64), low, high) - low) / (high - low) * 2 - 1
    elif column.kind == "category":
        places = {label: place for place, label in enumerate(column.categories)}
        values = np.array([places[str(cell)] for cell in cells], np.float64)
    else:
        values = np.asarray(cells, np.float64)
    return values.astype(np.float32)[:, None]


def _trained(path: Path, like: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Weights that came back, of the model's own shapes and finite."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = [np.asarray(found[str(number)], dtype=np.float32) for number in range(len(like))]
    except (OSError, KeyError, ValueError):
        raise InvalidRequest("TensorFlow Privacy gave no weights that can be read. The training is charged.") from None
    if any(one.shape != other.shape or not np.isfinite(one).all() for one, other in zip(arrays, like, strict=True)):
        raise InvalidRequest(
            "TensorFlow Privacy's weights are not the model's, or not finite. The training is charged; give a smaller"
            " learning_rate."
        )
    return arrays


def _returned(
    model: Any, arrays: list[np.ndarray[Any, Any]], table: LocalTable, training: DPSGD, told: TrainedThere
) -> Any:
    trained = copy_of(model)
    rest = iter(arrays)
    for layer in layers_of(trained):
        layer.layer.set_weights([next(rest) for _ in layer.layer.get_weights()])
    column = table.schema.column(str(table.schema.target))
    number, plain = OUTCOMES[training.loss] is Outcome.NUMBER, trained.predict

    def predict(self: Any, rows: Any, **options: Any) -> np.ndarray[Any, Any]:
        """What the model says of rows like those that it was trained on; a number in the target's own units."""
        options.setdefault("verbose", 0)
        outputs = np.asarray(plain(np.asarray(table.inputs(rows), dtype=np.float32), **options))
        return np.asarray(natural(column, outputs)) if number else outputs

    trained.predict = types.MethodType(predict, trained)
    trained.secureml = told
    return trained
