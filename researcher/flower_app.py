"""Run a stock Flower `ServerApp` whose Grid is a study: `researcher flower-run server_app.py --study study.py`.

The app is the researcher's own program, unchanged: its strategy, its number of rounds, its scores on public data. It
talks to hospitals through the study's Grid alone. Where it starts a strategy, that is looked at and rehearsed on
made-up weights with the app's own settings first, so that what cannot work says why before anything is charged; an app
with a loop of its own has each of its messages looked at before it goes out.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import runpy
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Strategy

from policies.errors import DatasiteError, InvalidRequest, WrongStatus
from policies.numbers import counted
from policies.privacy.mechanisms import DPSGD
from policies.release.tensors import digest
from researcher.federated import DatasiteGrid, aggregating, is_training, weights_of
from researcher.flower_turns import flower_turn, others_turn
from researcher.parameters import DRAWING
from researcher.rehearsal import check_read, check_same_shapes, rehearse
from researcher.releases import DEADLINE, GRACE, check_patience
from researcher.results import Result, result_of
from researcher.state import Tensors
from researcher.strategies import check_offered, describe, make_strategy
from researcher.studies import Study

CONFIG = ("tool", "flwr", "app", "config")
COMPONENT = ("tool", "flwr", "app", "components", "serverapp")
_ASSIGNMENT = re.compile(r"(\S+?)=('[^']*'|\"[^\"]*\"|\S+)")


@dataclass
class AppGrid(DatasiteGrid):
    """A study's Grid for a program that is not known beforehand: every message is looked at before it goes out.

    Args:
      training: as it was approved.
      initial: weights of the study's model, whose names and shapes the app's must have.
    """

    training: DPSGD = field(kw_only=True)
    initial: Tensors = field(kw_only=True)
    final: Tensors | None = field(default=None, kw_only=True)

    @property
    def left(self) -> int:
        """Approved rounds that are not closed yet."""
        return self.rounds - len(self.closed)

    def get_node_ids(self) -> list[int]:
        """As `DatasiteGrid`; after the last round those of that one, whom nobody can ask for anything any more."""
        if self.left:
            return super().get_node_ids()
        return [self._hospitals.index(name) + 1 for name in self._offered or self._hospitals]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One round, as `DatasiteGrid`. Raises `InvalidRequest` before anybody is asked."""
        messages = list(messages)
        training = [message for message in messages if is_training(message)]
        if training:
            self._check(training)
        return super().send_and_receive(messages, timeout=timeout)

    def _check(self, messages: list[Message]) -> None:
        if not self.left:
            raise InvalidRequest(
                f"The app begins round {self.rounds + 1}, and hospitals approved {self.rounds}. Give it so many rounds,"
                " or ask for more in a new study."
            )
        sent = set()
        for message in messages:
            check_read(message, self.training.proximal_mu, self.training)
            weights = weights_of(message, len(self.closed))
            check_same_shapes(weights, self.initial)
            sent.add(digest(weights))
        if len(sent) > 1:
            raise InvalidRequest("The app sends other weights to one hospital than to another. Send all the same.")


def run_app(
    app: Path | str,
    study: Study,
    *,
    run_config: Mapping[str, Any] | str = "",
    deadline: float = DEADLINE,
    grace: float = GRACE,
    quorum: int | None = None,
) -> Result | None:
    """Run a `ServerApp` over the hospitals of an approved study.

    An app that was interrupted is run again: closed rounds are answered from the study's directory, and nothing is
    paid twice. For that, what it draws is drawn from the study's seed.

    Args:
      app: the Python file that makes it, or the directory of a Flower project, whose `pyproject.toml` names it.
      run_config: in place of the project's own values, a mapping, or as Flower has it: "lr=0.1 rounds=3".
      deadline: seconds that a hospital may take for a round.
      grace: seconds that a datasite may be away before it is left out of the round.
      quorum: hospitals without which a round is not closed; the strategy's `min_train_nodes`, and two for an app with a
        loop of its own (one where there is one).

    Returns:
      What the last strategy made of the last round, or None where the app started none: its releases are kept.

    Raises:
      InvalidRequest: the app or its strategy cannot work here, and says why; or it failed, after that many rounds.
      Unavailable: fewer hospitals than the quorum.
      WrongStatus: nothing was submitted, or the study was begun with another strategy or other weights.
    """
    check_patience(deadline=deadline, grace=grace)
    sizes = study.requests.training_patients()
    if not sizes:
        raise WrongStatus(f"Study {study.name!r} was not submitted yet. Call submit() and wait_for_approval() first.")
    if study.curve is not None:
        raise InvalidRequest("An app decides itself when it ends. Take curve, every and stop_when out of the study.")
    study.requests.check_same_study()
    path = Path(app)
    with study.state.lock(), _at(path):
        served, config = load_app(path)
        config = _configured(config, run_config)
        least = quorum or min(2, len(sizes))
        grid = AppGrid(
            study.requests,
            SimpleNamespace(min_train_nodes=least, min_available_nodes=least),
            study.training.rounds,
            study.seed,
            study.progress,
            deadline=deadline,
            grace=grace,
            begin=lambda: study._begin(_about({"name": path.name, "options": {}, "instance": True}, study)),
            training=study.training,
            initial=study._initial(),
        )
        with study.progress.running(f"{path.name}, {grid.rounds} rounds"), _seeded(study.seed), _started(grid, study):
            try:
                served(grid=grid, context=Context(1, 0, {}, RecordDict(), config))
            except DatasiteError:
                raise
            except (Exception, SystemExit) as error:  # whatever the app does
                raise _failed(path, error, grid) from error
        if grid.final is None:
            return None
        study.state.write_tensors("final", grid.final)
    return result_of(study, grid.final, grid.closed, averaged={})


@contextmanager
def _started(grid: AppGrid, study: Study) -> Iterator[None]:
    """While this is held, a strategy that is started over `grid` is looked at and rehearsed before it asks anybody."""
    flowers = Strategy.start

    def start(strategy: Strategy, grid_given: Any = None, *arguments: Any, **options: Any) -> Any:
        if options.get("grid", grid_given) is not grid:
            given = () if grid_given is None else (grid_given,)
            return flowers(strategy, *given, *arguments, **options)
        named = dict(zip(("initial_arrays", "num_rounds", "timeout", *_CONFIGS), arguments, strict=False))
        options = {"num_rounds": 3, "timeout": grid.deadline, **named, **options, "grid": grid}
        return _start(flowers, strategy, grid, study, options)

    Strategy.start = start
    try:
        yield
    finally:
        Strategy.start = flowers


_CONFIGS = ("train_config", "evaluate_config", "evaluate_fn")


def _start(
    flowers: Callable[..., Any], strategy: Strategy, grid: AppGrid, study: Study, options: dict[str, Any]
) -> Any:
    rounds, arrays = options["num_rounds"], options["initial_arrays"]
    if rounds > grid.left:
        raise InvalidRequest(
            f"The app wants num_rounds={rounds}, and {counted(grid.left, 'approved round')} of {grid.rounds} are left."
            f" Give it {grid.left}, or ask for more in a new study. Nothing was asked or charged for it."
        )
    sizes = study.requests.training_patients()
    # Looked at is a copy, as a study's own strategies are; the app's own object runs.
    looked_at = make_strategy(strategy, study.training, hospitals=len(sizes), options={})
    check_offered(looked_at, {})
    sent = {str(name): np.asarray(value.numpy()) for name, value in arrays.items()}
    check_same_shapes(sent, grid.initial)
    about = _about(describe(strategy, {}), study)
    study._check_begun(about)
    with others_turn():  # a rehearsal takes its own
        rehearse(
            looked_at,
            {name: value.astype(np.float32) for name, value in sent.items()},
            sizes,
            rounds=rounds,
            proximal_mu=study.training.proximal_mu,
            training=study.training,
            train_config=options.get("train_config"),
        )
    grid.strategy, grid.deadline = strategy, min(grid.deadline, float(options["timeout"]))
    grid.begin = lambda: study._begin(about)
    with aggregating(strategy):
        result = flowers(strategy, **options)
    if result.arrays:
        grid.final = {name: np.asarray(result.arrays[name].numpy(), dtype=np.float32) for name in grid.initial}
    return result


def _about(strategy: dict[str, Any], study: Study) -> dict[str, Any]:
    """What a study was begun with, as `Study.run` writes it."""
    return {"strategy": strategy, "seed": study.seed, "rounds": study.training.rounds}


def load_app(path: Path) -> tuple[ServerApp, dict[str, Any]]:
    """The one `ServerApp` of a file or a Flower project, and the project's run configuration.

    Raises `InvalidRequest` where there is none, more than one, or one of Flower's former API.
    """
    project = _project(path)
    if path.is_dir():
        named = _inside(project, COMPONENT)
        if not isinstance(named, str) or named.count(":") != 1:
            raise InvalidRequest(f"{path}/pyproject.toml names no serverapp in [tool.flwr.app.components]. Add it.")
        module, _, attribute = named.partition(":")
        try:
            served = getattr(importlib.import_module(module), attribute, None)
        except (Exception, SystemExit) as error:  # whatever the app's module does
            raise InvalidRequest(f"{named} of {path} cannot be loaded: {type(error).__name__}: {error}.") from error
        apps = {id(served): served} if isinstance(served, ServerApp) else {}
    elif path.is_file():
        try:
            names = runpy.run_path(str(path), run_name="__serverapp__")
        except DatasiteError:
            raise
        except (Exception, SystemExit) as error:  # whatever the app's file does
            raise InvalidRequest(
                f"{path}, line {_line(path, error)}: {type(error).__name__}: {error}. Mend the file."
            ) from error
        apps = {id(value): value for value in names.values() if isinstance(value, ServerApp)}
    else:
        raise InvalidRequest(f"{path} is not there. Name the Python file of the ServerApp, or its project's directory.")
    if len(apps) != 1:
        raise InvalidRequest(f"{path} makes {len(apps)} ServerApps, and one is run. Write app = ServerApp() once.")
    (served,) = apps.values()
    if served._main is None:
        raise InvalidRequest(
            f"The ServerApp of {path} has no @app.main(): it is of Flower's former API (server_fn, strategy=). Start"
            " its strategy with flwr.server.start_server, and join it with researcher flower-client; or write"
            " @app.main() def main(grid, context), as Flower's today's guides do."
        )
    return served, _flat(_inside(project, CONFIG) or {})


def _project(path: Path) -> dict[str, Any]:
    """The `pyproject.toml` of a project, or of the one that a file lies in; nothing where there is none."""
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    for folder in folders:
        file = folder / "pyproject.toml"
        try:
            project = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError:
            continue
        except ValueError as error:
            raise InvalidRequest(f"{file} cannot be read: {error}.") from None
        if _inside(project, ("tool", "flwr")) is not None:
            return project
    return {}


def _inside(table: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return table


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested tables as `a.b`, as Flower gives them to apps."""
    values: dict[str, Any] = {}
    for name, value in table.items():
        values |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return values


def _configured(config: dict[str, Any], given: Mapping[str, Any] | str) -> dict[str, Any]:
    """A project's run configuration with values in place of its own."""
    if isinstance(given, str):
        text, pairs = given, _ASSIGNMENT.findall(given)
        try:
            given = tomllib.loads("\n".join(f'"{name}" = {value}' for name, value in pairs))
        except tomllib.TOMLDecodeError as error:
            raise InvalidRequest(f"run_config {text[:200]!r} cannot be read: {error}. Write lr=0.1 name='a'.") from None
        if text.strip() and not given:
            raise InvalidRequest(f"run_config {text[:200]!r} has no name=value. Write lr=0.1 name='a'.")
    if config and (unknown := sorted(set(given) - set(config))):
        raise InvalidRequest(
            f"run_config names {', '.join(unknown)}, which the project has not. It has {', '.join(sorted(config))}."
        )
    return config | dict(given)


@contextmanager
def _at(path: Path) -> Iterator[None]:
    """The app's own folder, and its project's, can be imported from."""
    folders = (
        [str(path.resolve())] if path.is_dir() else [str(path.resolve().parent), str(path.resolve().parent.parent)]
    )
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Flower's turn; what the app draws with torch, numpy and Python comes of the study's seed, and is as it was after.

    An app draws its first weights: drawn anew, they would be others when it is run again.
    """
    import torch

    with flower_turn(), DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield


def _line(path: Path, error: BaseException) -> int | str | None:
    if isinstance(error, SyntaxError):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else "?"


def _failed(path: Path, error: BaseException, grid: AppGrid) -> InvalidRequest:
    return InvalidRequest(
        f"{path.name} failed after {len(grid.closed)} of {grid.rounds} closed rounds: {type(error).__name__}:"
        f" {str(error).rstrip('.')}. Mend it, and run it again: closed rounds and settled releases are not paid for"
        " again."
    )
