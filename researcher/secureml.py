"""SecureML's calls, honest inside: train a model of your own privately in one line.

    from researcher.secureml import differentially_private_train

    trained = differentially_private_train(model, frame, epsilon=1.0, criterion=nn.BCELoss(), bounds={"age": (0, 110)})
    trained.predict(frame)                 # in the target's own units
    trained.secureml.certificates          # what was spent, signed; the ledger lies beside

    start_federated_client(model, frame, "flower.example:8080", epsilon=1.0, ca="ca.pem", bounds=...)

A table of one's own is trained on by the datasite's own engine on this machine (`researcher.local_datasites`); a
hospital's cohort becomes a study, to be checked and submitted. Each row is a person, each loses at most `epsilon`, and
an argument that cannot be honoured is refused by name.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import BudgetTooSmall, InvalidRequest, UnsupportedMechanism
from policies.privacy.accountant import epsilon_of, resolve
from policies.privacy.checks import check_range
from policies.privacy.mechanisms import DPSGD
from policies.privacy.other_names import REASONS, understood
from policies.privacy.outcomes import OUTCOMES, Outcome
from policies.release.tensors import digest
from researcher.keras import check_takes_scaled, for_loss, is_keras, source_for
from researcher.keras_training import compiled_settings, returned
from researcher.local_datasites import POPULATION, LocalDatasite, local_datasite
from researcher.local_tables import Bounds, LocalTable, local_table
from researcher.members import Hospitals
from researcher.parameters import load_parameters
from researcher.progress import Progress
from researcher.studies import Evaluation, Study
from researcher.tf_privacy import train_there
from researcher.training import TrainingByEpochs

if TYPE_CHECKING:
    from torch import nn

    from researcher.results import Result

BUDGET = 10.0
LEDGER = ".secureml"
VALIDATION = 0.2
RATE = 1e-3
_ACCURACY = "accuracy acc binary_accuracy binaryaccuracy categorical_accuracy sparse_categorical_accuracy"
SCORES = {"accuracy": _ACCURACY.split(), "auc": ["auc"]}
ERRORS = {
    "mae": ["mae", "mean_absolute_error", "meanabsoluteerror"],
    "rmse": ["rmse", "root_mean_squared_error", "rootmeansquarederror", "mse", "mean_squared_error"],
    "r2": ["r2", "r2_score", "r2score"],
}
"""Figures of validation, and what they are called elsewhere."""


@dataclass(frozen=True)
class Trained:
    """What a local training was and cost; `model.secureml`.

    Args:
      epsilon, delta: what each row of the training part has lost by it, as certified.
      epochs: that were trained, fewer than asked where it stopped early.
      history: figures of validation by epoch, as `{"AUC": {1: 0.71, 2: 0.74}}`; none without validation.
      certificates: one for each release, signed, as JSON texts.
      ledger: the file with every charge to these rows, other trainings among them.
      result: the study's own, with releases, plots and `save`.
    """

    epsilon: float
    delta: float
    epochs: int
    history: dict[str, dict[int, float]]
    certificates: tuple[str, ...]
    ledger: Path
    result: Result


def differentially_private_train(
    model: nn.Module | Any,
    data: Any,
    epsilon: float = 1.0,
    delta: float = 1e-5,
    noise_multiplier: float | None = None,
    max_grad_norm: float = 1.0,
    framework: str = "auto",
    *,
    batch_size: int = 64,
    epochs: int = 10,
    learning_rate: float | None = None,
    validation_split: float | None = None,
    shuffle: bool = True,
    verbose: bool = True,
    criterion: Any = None,
    optimizer: Any = None,
    early_stopping_patience: int | None = None,
    target_column: Any = None,
    loss: Any = None,
    metrics: Any = None,
    bounds: Bounds = None,
    ledger: Path | str = LEDGER,
    budget_epsilon: float = BUDGET,
    name: str | None = None,
    seed: int = 0,
    **others: Any,
) -> Any:
    """Train `model` with differential privacy, each row of `data` being a person.

    Args:
      model: a PyTorch model, or one of Keras, of which optimizer, loss and metrics are taken as compiled where they are
        not given here. It comes back trained; it is not changed itself.
      data: a DataFrame, an array, or a pair (features, target), trained on here; or `network.dataset(...)`.
      epsilon: what each row may lose at most, validation included: rows that validate do not train.
      delta: δ of that ε.
      noise_multiplier: noise in place of what ε asks for; refused where it costs more than `epsilon`.
      max_grad_norm: what every row's gradient is clipped to.
      framework: `"auto"`, `"pytorch"` or `"keras"`: whose model it is. With `"tensorflow"` TensorFlow Privacy trains a
        model of Keras in an environment of its own (`researcher.tf_privacy`).
      batch_size: rows in a batch, on average: rows are Poisson-sampled.
      epochs: passes over the rows. Each is a round; the optimizer's state begins anew with it.
      validation_split: share of the rows that validate, 0 to 0.5; None takes 0.2. A hospital has a hold-out of its own.
      shuffle: True; rows are sampled at random, which the noise is computed for.
      verbose: say the ε that is spent after every epoch.
      learning_rate: of the optimizer, 0.001 where nothing says another.
      criterion, loss: one of torch's losses, an object or a name.
      optimizer: `"adam"`, which it is if None, or `"sgd"`, or one of torch's.
      early_stopping_patience: epochs without a better validation after which it ends; what it leaves goes back.
      target_column: of the target; the last one if None.
      metrics: among `"accuracy"` and `"auc"`, of numbers `"mae"`, `"rmse"` and `"r2"`; they come from validation, which
        has them anyway.
      bounds: of each column, as `{"age": (0, 110)}`, or one pair for all: public, and never taken from the data.
      ledger: directory of the ledger, whose budget all trainings on rows of this machine share.
      budget_epsilon: ε of that budget, where there is none yet. The ledger adds up at the order that is best for all of
        it, so that one training takes more of a large budget than its own ε, and many take less than their sum.
      name: of the study at hospitals; there it is needed.
      seed: of the initial weights' order; another one trains anew, where the same call gives the same model again.

    Returns:
      A copy of the model, trained, with `predict(rows)` and `secureml` (`Trained`); of a cohort a `researcher.Study`.

    Raises:
      UnsupportedMechanism: an argument that cannot be honoured, with the reason.
      InvalidRequest: the table, its bounds or the model cannot be read, or the engine is not installed here.
      BudgetExceeded: the ledger's budget does not hold it.
    """
    for unknown in others:
        why = REASONS.get(unknown, "It is no argument here.")
        raise UnsupportedMechanism(f"{unknown}={others[unknown]!r:.60} is not taken. {why}")
    given = model
    _check(framework=framework, shuffle=shuffle, model=model)
    settings = _settings(
        epsilon,
        delta,
        noise_multiplier,
        max_grad_norm,
        learning_rate,
        compiled=compiled_settings(model) if is_keras(model) else {},
        criterion=criterion,
        loss=loss,
        optimizer=optimizer,
    )
    _check_metrics([*_listed(metrics), *settings.pop("metrics", ())], str(settings["loss"]))
    if is_keras(model):
        model = for_loss(model, str(settings["loss"]))
    by_epochs = TrainingByEpochs(epochs, batch_size, tuple({**settings, "rounds": min(epochs, 1000)}.items()))
    there = framework == "tensorflow"
    if isinstance(data, Hospitals):
        if there:
            raise UnsupportedMechanism("framework='tensorflow' is for tables of your own: hospitals train in torch.")
        local = {"bounds": bounds, "target_column": target_column, "validation_split": validation_split}
        for argument, value in local.items():
            if value is not None:
                raise UnsupportedMechanism(
                    f"{argument}={value!r:.60} is not taken with a hospital's data: its schema says it."
                )
        if name is None:
            raise UnsupportedMechanism("name=None is not taken with hospitals: they read it. Give one, as 'flu-2026'.")
        return _study(name, data, model, by_epochs.at(data.training_patients), early_stopping_patience, seed=seed)
    if there:
        scored = {"validation_split": validation_split or None, "early_stopping_patience": early_stopping_patience}
        for argument, value in scored.items():
            if value is not None:
                raise UnsupportedMechanism(
                    f"{argument}={value!r:.60} is not taken with framework='tensorflow': scores of private rows are"
                    " releases, which the datasite's engine charges. Use framework='keras'."
                )
        validation_split = 0
    split = VALIDATION if validation_split is None else validation_split
    if not isinstance(split, int | float) or isinstance(split, bool) or not 0 <= split <= 0.5:
        raise UnsupportedMechanism(f"validation_split={split!r} is outside [0, 0.5].")
    if early_stopping_patience is not None and not split:
        raise UnsupportedMechanism("early_stopping_patience needs rows that validate: validation_split is 0.")
    if is_keras(given):
        check_takes_scaled(given)
    table = local_table(
        data,
        target=target_column,
        classes=_classes(model, str(settings["loss"])),
        bounds=bounds,
        holdout=float(split),
        name="pending",
        population=POPULATION,
    )
    training = by_epochs.at({"rows": max(1, math.floor(len(table.frame) * (1 - split)))})
    _check_noise(training, epsilon)
    if there:
        say = _Epochs(training, shown=verbose).say
        return train_there(given, table, training, ledger=Path(ledger), budget_epsilon=budget_epsilon, say=say)
    datasite = local_datasite(Path(ledger), epsilon=budget_epsilon, delta=max(delta, 1e-5))
    table = _published(datasite, table)
    cohort = datasite.cohort(table.schema.name)
    training = by_epochs.at(cohort.training_patients)
    label = _label(table, model, training, split, early_stopping_patience, seed, text=_text_of(given, training.loss))
    study = _study(
        label,
        cohort,
        model,
        training,
        early_stopping_patience,
        seed=seed,
        validates=bool(split),
        state=Path(ledger) / "studies" / label,
    )
    study.progress = _Epochs(training, shown=verbose)
    study.submit()
    study.wait_for_approval(timeout=60)
    result = study.run("FedAvg")
    trained = returned(given, result, table) if is_keras(given) else _returned(model, result, table)
    trained.secureml = _told(result, datasite)
    return trained


def start_federated_client(
    model: nn.Module,
    data: Any,
    server_address: str,
    apply_differential_privacy: bool = True,
    epsilon: float = 1.0,
    delta: float = 1e-5,
    max_grad_norm: float = 1.0,
    *,
    rounds: int = 3,
    noise_multiplier: float | None = None,
    batch_size: int = 64,
    epochs: int = 1,
    learning_rate: float | None = None,
    verbose: bool = True,
    criterion: Any = None,
    optimizer: Any = None,
    target_column: Any = None,
    loss: Any = None,
    bounds: Bounds = None,
    ca: Path | str | None = None,
    ledger: Path | str = LEDGER,
    budget_epsilon: float = BUDGET,
    patience: float = 60.0,
    seed: int = 0,
    **others: Any,
) -> Any:
    """Join a Flower server (`start_server`) with a table of your own, each row of it being a person.

    The server sends weights; each round trains on them here, as `differentially_private_train` does, and what goes back
    is noised, charged and certified before it leaves. It sets nothing: a round beyond `rounds`, weights of another
    model, or settings that differ are refused, in words that it can show.

    Args:
      model, data, delta, max_grad_norm, noise_multiplier, batch_size, learning_rate, verbose, criterion, optimizer,
        target_column, loss, bounds, ledger, budget_epsilon, seed: as `differentially_private_train` has them.
      server_address: HOST:PORT of the server.
      apply_differential_privacy: True; nothing leaves without.
      epsilon: what each row may lose in all rounds together. Once it is spent the server gets no more rounds, in this
        process or another; another seed is another training, charged to the same ledger.
      rounds: of the server, at most; the noise is computed for so many.
      epochs: passes over the rows in each round.
      ca: file with the authority of the server's certificate; it may be left out for a server on this machine.
      patience: seconds that the server may be away.

    Returns:
      A copy of the model with the last joint weights that the server has sent, with `predict` and `secureml`
      (`Trained`), when the server has ended.

    Raises:
      UnsupportedMechanism, InvalidRequest, BudgetExceeded: as `differentially_private_train`.
      WrongStatus: the server got no round, as where all are used.
      Unavailable: the server was away for too long; what it was given is kept, and not paid for again.
    """
    for unknown in others:
        why = REASONS.get(unknown, "It is no argument here.")
        raise UnsupportedMechanism(f"{unknown}={others[unknown]!r:.60} is not taken. {why}")
    if apply_differential_privacy is not True:
        raise UnsupportedMechanism(
            f"apply_differential_privacy={apply_differential_privacy!r} is not taken. Weights tell of rows: nothing"
            " leaves without noise. Leave it out."
        )
    check_range("rounds", rounds, 1, 1000, whole=True)
    check_range("epochs", epochs, 1, 100_000, whole=True)
    if is_keras(model):
        raise UnsupportedMechanism(
            "model is one of Keras, whose arrays a server would have to take apart. Give"
            " researcher.keras.to_torch(model), and the server the weights of that."
        )
    from researcher.flower_client import Server, clients_of

    server = Server.at(server_address, ca)
    given = {"criterion": criterion, "loss": loss, "optimizer": optimizer}
    settings = _settings(epsilon, delta, noise_multiplier, max_grad_norm, learning_rate, compiled={}, **given)
    by_epochs = TrainingByEpochs(epochs * rounds, batch_size, tuple({**settings, "rounds": rounds}.items()))
    if isinstance(data, Hospitals):
        raise UnsupportedMechanism(
            "data is a hospitals' dataset, whose rows are not here. Make a study of it with"
            " differentially_private_train, and let the server drive that: researcher flower-client."
        )
    table = local_table(
        data,
        target=target_column,
        classes=_classes(model, str(settings["loss"])),
        bounds=bounds,
        holdout=0.0,
        name="pending",
        population=POPULATION,
    )
    _check_noise(by_epochs.at({"rows": max(1, len(table.frame))}), epsilon)
    datasite = local_datasite(Path(ledger), epsilon=budget_epsilon, delta=max(delta, 1e-5))
    table = _published(datasite, table)
    cohort = datasite.cohort(table.schema.name)
    training = by_epochs.at(cohort.training_patients)
    label = _label(table, model, training, 0.0, None, seed, text="").replace("secureml", "federated")
    study = _study(label, cohort, model, training, None, seed=seed, state=Path(ledger) / "studies" / label)
    study.progress = _Epochs(training, shown=verbose, word="round")
    study.submit()
    study.wait_for_approval(timeout=60)
    (client,) = clients_of(study, server, patience=patience)
    result = client.result()
    trained = _returned(model, result, table)
    trained.secureml = _told(result, datasite)
    return trained


def _text_of(model: Any, loss: str) -> str:
    """The torch source of a Keras model, whose layers alone do not tell two models apart; "" of another."""
    return source_for(model, loss) if is_keras(model) else ""


def _listed(metrics: Any) -> list[Any]:
    return [] if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)


def _check(*, framework: str, shuffle: Any, model: Any) -> None:
    frameworks = ("auto", "keras", "tensorflow") if is_keras(model) else ("auto", "pytorch", "torch")
    if framework not in frameworks:
        whose = "a model of Keras" if is_keras(model) else "a PyTorch model"
        raise UnsupportedMechanism(
            f"framework={framework!r} is not taken with {whose}. Use {' or '.join(map(repr, frameworks))}."
        )
    if shuffle is not True:
        raise UnsupportedMechanism(
            f"shuffle={shuffle!r} is not taken. Rows are sampled at random at every step; the noise relies on it."
        )


def _check_metrics(metrics: list[Any], loss: str) -> None:
    figures = ERRORS if OUTCOMES.get(loss) is Outcome.NUMBER else SCORES
    for metric in metrics:
        if not any(str(metric).lower() in names for names in figures.values()):
            raise UnsupportedMechanism(
                f"metrics={metric!r} is not taken: validation of {loss} answers {', '.join(figures)}. Leave it out."
            )


def _settings(
    epsilon: float,
    delta: float,
    noise: float | None,
    norm: float,
    rate: float | None,
    *,
    compiled: dict[str, Any],
    **given: Any,
) -> dict[str, Any]:
    named = {name: value for name, value in given.items() if value is not None}
    settings = understood({**named, "max_grad_norm": norm, "delta": delta})
    if rate is not None and settings.get("learning_rate", rate) != rate:
        raise UnsupportedMechanism(
            f"learning_rate={rate!r} and the optimizer's {settings['learning_rate']!r} are two. Give one of them."
        )
    of_optimizer = {"optimizer", "momentum", "learning_rate"} if "optimizer" in settings else set()
    of_loss = {"loss", "huber_delta"} if "loss" in settings else set()
    settings = {name: value for name, value in compiled.items() if name not in of_optimizer | of_loss} | settings
    if rate is not None:
        settings["learning_rate"] = rate
    settings.setdefault("optimizer", "adam")
    settings.setdefault("learning_rate", RATE)  # an optimizer of torch or a compiled one says its own
    settings |= {"epsilon": epsilon} if noise is None else {"noise_multiplier": noise}
    settings.setdefault("loss", "cross_entropy")  # as the field's tutorials have it, unless the model says otherwise
    return settings


def _check_noise(training: DPSGD, epsilon: float) -> None:
    """Raise `BudgetTooSmall` where a noise multiplier that was given costs more than ε."""
    spent = epsilon_of(resolve(training), training.delta)
    if training.noise_multiplier is not None and spent > epsilon:
        raise BudgetTooSmall(
            f"noise_multiplier={training.noise_multiplier:g} costs ε={spent:.3g} over all epochs, above"
            f" epsilon={epsilon:g}. Give more noise, fewer epochs, or leave noise_multiplier out."
        )


def _classes(model: Any, loss: str) -> Callable[[int], int] | None:
    """How many classes the model tells apart, by the number of its inputs; None where it predicts a number."""
    if loss in OUTCOMES and OUTCOMES[loss] is not Outcome.CLASS:
        return None
    return (lambda width: _outputs(model, width)) if loss == "cross_entropy" else (lambda width: 2)


def _outputs(model: Any, width: int) -> int:
    import torch

    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = int(copy.deepcopy(model).eval()(torch.zeros(1, width)).shape[-1])
    except Exception as error:  # whatever the model does
        raise InvalidRequest(
            f"The model does not take a row's {width} numbers ({type(error).__name__}: {error}). Its inputs are the"
            " table's columns in order, a category above two labels as one for each."
        ) from None
    if outputs < 2:
        raise UnsupportedMechanism(
            "criterion=CrossEntropyLoss takes a number for each class, and the model gives one. Say"
            " criterion=nn.BCEWithLogitsLoss(), or nn.BCELoss() where it ends in a sigmoid."
        )
    return outputs


def _published(datasite: LocalDatasite, table: LocalTable) -> LocalTable:
    """The table under a name that its content gives it, published once."""
    text = table.csv()
    told = json.dumps(table.schema.as_dict(), sort_keys=True)
    name = f"table-{hashlib.sha256(f'{told}{text}'.encode()).hexdigest()[:16]}"
    named = replace(table, schema=replace(table.schema, name=name))
    if not datasite.publishes(name):
        folder = datasite.directory / "publishing"
        folder.mkdir(mode=0o700, exist_ok=True)
        rows, schema = folder / "rows.csv", folder / "schema.toml"
        try:
            rows.write_text(text, encoding="utf-8")
            schema.write_text(named.schema.to_toml(), encoding="utf-8")
            datasite.publish(rows, schema, patients=len(table.frame))
        except InvalidRequest as refused:
            if "holds out" not in str(refused):
                raise
            raise UnsupportedMechanism(
                f"validation_split={table.schema.holdout:g} is not taken: this ledger's rows were split otherwise"
                " before, and a row that trained would validate. Give the share that you gave first, or another ledger."
            ) from None
        finally:
            for path in (rows, schema):
                path.unlink(missing_ok=True)
    return named


def _study(
    name: str,
    cohort: Any,
    model: Any,
    training: DPSGD,
    patience: int | None,
    *,
    seed: int,
    validates: bool = False,
    state: Path | None = None,
) -> Study:
    """The study; where it validates, the model is scored after every epoch, all scores together at most at ε."""
    options: dict[str, Any] = {}
    if validates or patience is not None:
        from researcher.curves import no_better

        epsilon = epsilon_of(resolve(training), training.delta)
        options["curve"] = Evaluation(epsilon=math.floor(epsilon / training.rounds * 1e9) / 1e9)
        if patience is not None:
            options["stop_when"] = no_better(for_rounds=patience)
    return Study(name, cohort, model, training, seed=seed, state=state, **options)


def _label(
    table: LocalTable, model: Any, training: DPSGD, split: float, patience: int | None, seed: int, *, text: str
) -> str:
    """A study's name by everything that it is made of: the same call is the same study, and is paid for once."""
    weights = digest({name: value.detach().numpy() for name, value in model.named_parameters()})
    told = repr((table.schema.name, text or repr(model), weights, training, split, patience, seed))
    return f"secureml-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


class _Epochs(Progress):
    """Says after every epoch what is spent of ε."""

    def __init__(self, training: DPSGD, *, shown: bool, word: str = "epoch") -> None:
        super().__init__(shown=shown)
        self._word = word
        self._training, self._resolved = training, resolve(training)
        self._closed: set[str] = set()

    def hospital(self, what: str, hospital: str, state: str) -> None:
        """One line for each epoch that was released."""
        number = what.removeprefix("round ").partition("/")[0]
        if what in self._closed or not what.startswith("round ") or not number.isdigit() or state == "asked":
            return
        if state.startswith("closed"):
            self._closed.add(what)
            self.say(f"{self._word} {number}/{self._training.rounds}: trained before, nothing is paid again")
        elif state.startswith("released"):
            self._closed.add(what)
            spent = epsilon_of(self._resolved, self._training.delta, int(number))
            self.say(
                f"{self._word} {number}/{self._training.rounds}: ε = {spent:.3f} spent (δ = {self._training.delta:g})"
            )


def _returned(model: Any, result: Result, table: LocalTable) -> Any:
    """A copy of the model with the released weights, and `predict`."""
    trained = copy.deepcopy(model)
    load_parameters(trained, result.weights)
    trained.eval()

    def predict(self: Any, rows: Any) -> np.ndarray[Any, Any]:
        """What the model says of rows: the chance of each class, or a number in the target's own units."""
        import torch

        with torch.no_grad():
            return result.in_units(self(torch.from_numpy(table.inputs(rows))))

    trained.predict = types.MethodType(predict, trained)
    return trained


def _told(result: Result, datasite: LocalDatasite) -> Trained:
    """What the training was and cost."""
    study = result.study
    assert study is not None
    rounds = len(result.rounds)
    curve = result.curve
    history: dict[str, dict[int, float]] = {}
    if curve is not None:
        for name in curve.names:
            history[name] = {number: figure.value for number, figure in curve.combined(name).items()}
    return Trained(
        epsilon=epsilon_of(resolve(study.training), study.training.delta, rounds),
        delta=study.training.delta,
        epochs=rounds,
        history=history,
        certificates=tuple(release.certificate for release in result.releases),
        ledger=datasite.ledger,
        result=result,
    )
