"""Simulated hospitals on Flower's simulation engine, which runs each one's training as a `ClientApp` on Ray.

Chances, charges and the strategy stay where they are, in `researcher.simulation`; what goes to Flower's nodes is one
hospital's training: its number, the round and the weights in, weights out. It is for models that torch computes for one
hospital at a time, and for who has a cluster of Ray: in one process (`engine="process"`) it is many times faster.
Ray is not installed with this package.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import pickle
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.task_identity import TaskIdentity

from policies.errors import InvalidRequest, Unavailable
from researcher.simulated_patients import Rows
from researcher.simulated_training import Hospitals, Train
from researcher.state import Tensors

Identity = tuple[int | None, int | None, int | None]
"""Run, task and node of a task of Flower's."""
WEIGHTS, ASKED = "weights", "asked"
START_SECONDS, ROUND_SECONDS = 180.0, 3600.0
PAUSE = 0.1
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
CALLS_NOBODY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def check_ray() -> None:
    """Raise `InvalidRequest`, saying what to install, where Ray is missing."""
    spec = importlib.util.find_spec("ray")
    if spec is None or spec.origin is None:  # a folder of that name is not it
        raise InvalidRequest(
            'engine="ray" needs Ray, which is not installed here and comes with no part of this package. Install the'
            f" one that Flower {importlib.metadata.version('flwr')} runs on, pip install '{_wanted()}', or leave"
            " engine out: one process simulates as many hospitals, faster."
        )


def _wanted() -> str:
    """What Flower asks for in its own metadata, as `ray==2.55.1`."""
    for line in importlib.metadata.requires("flwr") or ():
        if line.startswith("ray"):
            return line.partition(";")[0].strip()
    return "ray"


def client_app(hospitals: Callable[[], Hospitals]) -> Any:
    """Flower's `ClientApp` that trains the hospital of a message's number.

    Args:
      hospitals: gives all of them, where the app runs.
    """
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator, unused-ignore]
    def train(message: Message, context: Context) -> Message:
        asked = message.content.config_records[ASKED]
        weights = {str(name): value.numpy() for name, value in message.content.array_records[WEIGHTS].items()}
        trained = hospitals().train_one(int(asked["hospital"]), weights, int(asked["round"]))
        return Message(RecordDict({WEIGHTS: _arrays(trained)}), reply_to=message)

    return app


def train_on(grid: Grid, nodes: Sequence[int], identity: Identity) -> Train:
    """Training at Flower's nodes, one message for each hospital.

    Args:
      identity: of the task that Flower started, in whose name its messages go.

    Raises `Unavailable` where a node answers with an error or not at all.
    """

    def train(hospitals: Sequence[int], weights: Tensors, round: int) -> list[Tensors]:
        arrays = _arrays(weights)
        at = {nodes[place % len(nodes)]: hospital for place, hospital in enumerate(hospitals)}
        trained: dict[int, Tensors] = {}
        with _as_task(identity):
            messages = [
                Message(
                    RecordDict({WEIGHTS: arrays, ASKED: ConfigRecord({"hospital": hospital, "round": round})}),
                    dst_node_id=node,
                    message_type=MessageType.TRAIN,
                )
                for node, hospital in at.items()
            ]
            replies = list(grid.send_and_receive(messages, timeout=ROUND_SECONDS))
        for reply in replies:
            hospital = at[reply.metadata.src_node_id]
            if reply.has_error():
                raise Unavailable(f"Flower's engine failed at simulated hospital {hospital}: {reply.error.reason}")
            trained[hospital] = {
                str(name): value.numpy() for name, value in reply.content.array_records[WEIGHTS].items()
            }
        if lacking := [hospital for hospital in hospitals if hospital not in trained]:
            raise Unavailable(
                f"{len(lacking)} of {len(hospitals)} simulated hospitals did not answer Flower's engine in"
                f" {ROUND_SECONDS:g} s. Give fewer hospitals, or leave engine out."
            )
        return [trained[hospital] for hospital in hospitals]

    return train


@contextmanager
def _as_task(identity: Identity) -> Iterator[None]:
    """Flower marks messages with the process's one task, which a study has as its own while its strategy computes."""
    before = _identity()
    _become(identity)
    try:
        yield
    finally:
        _become(before)


def _identity() -> Identity:
    return TaskIdentity._run_id, TaskIdentity._task_id, TaskIdentity._node_id


def _become(identity: Identity) -> None:
    TaskIdentity._run_id, TaskIdentity._task_id, TaskIdentity._node_id = identity


def _arrays(tensors: Tensors) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(tensors[name])) for name in sorted(tensors)})


@contextmanager
def on_ray(hospitals: Hospitals, count: int) -> Iterator[Train]:
    """While this is held, `count` nodes of Flower's engine stand on Ray, and train what they are asked.

    Raises:
      InvalidRequest: Ray is not installed.
      Unavailable: the engine did not start, or ended.
    """
    check_ray()
    grids: queue.Queue[tuple[Grid, list[int], Identity]] = queue.Queue()
    done, ended = threading.Event(), threading.Event()
    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator, unused-ignore]
    def main(grid: Grid, context: Context) -> None:
        nodes = list(grid.get_node_ids())
        while len(nodes) < count and not ended.is_set():
            time.sleep(PAUSE)
            nodes = list(grid.get_node_ids())
        grids.put((grid, sorted(nodes), _identity()))
        done.wait()

    with tempfile.TemporaryDirectory(prefix="simulated-") as folder:
        keep(hospitals, Path(folder))
        failed: list[BaseException] = []
        log = logging.getLogger("flwr")
        level = log.level
        log.setLevel(logging.ERROR)
        thread = threading.Thread(target=_run_engine, args=(server, Path(folder), count, failed, ended), daemon=True)
        thread.start()
        try:
            yield train_on(*_first(grids, ended, failed))
        finally:
            done.set()
            thread.join(START_SECONDS)
            log.setLevel(level)


def _first(grids: queue.Queue[Any], ended: threading.Event, failed: list[BaseException]) -> Any:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return grids.get(timeout=PAUSE)
        except queue.Empty:
            if ended.is_set() or time.monotonic() > deadline:
                why = f"{type(failed[0]).__name__}: {failed[0]}"[:300] if failed else f"not within {START_SECONDS:g} s"
                raise Unavailable(
                    f"Flower's engine did not start on Ray: {why}. Leave engine out to simulate in one process."
                ) from None


def _run_engine(
    server: ServerApp, folder: Path, count: int, failed: list[BaseException], ended: threading.Event
) -> None:
    from flwr.simulation import run_simulation

    for name, value in CALLS_NOBODY.items():
        os.environ.setdefault(name, value)
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": QUIET}
    try:
        run_simulation(
            server,
            client_app(functools.partial(kept, str(folder))),
            count,
            backend_config=resources,
        )
    except BaseException as error:  # SystemExit of Flower's own included
        failed.append(error)
    finally:
        ended.set()


def keep(hospitals: Hospitals, folder: Path) -> None:
    """Write hospitals where processes of this machine read them: rows to be mapped, and the trainer by value."""
    by_value = importlib.import_module("ray.cloudpickle")  # of models, whose classes a study's file defines
    sizes = [len(rows.targets) for rows in hospitals.rows]
    np.save(folder / "inputs.npy", np.concatenate([rows.inputs for rows in hospitals.rows]))
    np.save(folder / "targets.npy", np.concatenate([rows.targets for rows in hospitals.rows]))
    with (folder / "trainer").open("wb") as file:
        by_value.dump((hospitals.trainer, sizes, list(hospitals.patients)), file)


@functools.lru_cache(maxsize=1)
def kept(folder: str) -> Hospitals:
    """The hospitals that `keep` wrote, once in each process."""
    path = Path(folder)
    with (path / "trainer").open("rb") as file:
        trainer, sizes, patients = pickle.load(file)  # written by this study a moment ago, in a folder of its own
    inputs, targets = (np.load(path / f"{name}.npy", mmap_mode="r") for name in ("inputs", "targets"))
    ends = np.cumsum(sizes)
    begins = ends - sizes
    rows = [
        Rows(np.asarray(inputs[begin:end]), np.asarray(targets[begin:end]))
        for begin, end in zip(begins, ends, strict=True)
    ]
    return Hospitals(trainer, rows, patients)
