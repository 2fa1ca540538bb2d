"""A simulated study in one process beside the same one on Flower's simulation engine, which needs Ray."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

import researcher
from policies.schema.schemas import Schema
from researcher.simulated_network import simulated_network
from researcher.simulation import ENGINES, simulate
from tests.factories import SCHEMA
from tests.relays.models import FluPredictor

PATIENTS, ROUNDS, STEPS = 200, 2, 10


@dataclass(frozen=True)
class Way:
    """What a simulation took on an engine: seconds to start and of a round, MB of its processes at most, and AUC."""

    engine: str
    start: float
    round: float
    megabytes: float
    score: float | None


def compare(hospitals: int) -> list[Way]:
    """The same study on every engine that is installed here."""
    return [_on(engine, hospitals) for engine in ENGINES if engine != "ray" or importlib.util.find_spec("ray")]


def _on(engine: str, hospitals: int) -> Way:
    training = researcher.Training(
        loss="binary_cross_entropy",
        rounds=ROUNDS,
        steps=STEPS,
        sampling_rate=0.1,
        clipping_norm=1.0,
        epsilon=2.0,
        learning_rate=1.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        with simulated_network(Schema.from_toml(SCHEMA), PATIENTS):
            cohort = researcher.connect("network.toml").dataset("flu")
        study = researcher.Study("simulated", cohort, FluPredictor, training, state=Path(folder), progress=False)
        begin, most = time.monotonic(), _Most()
        with most:
            made = simulate(study, hospitals=hospitals, patients=PATIENTS, engine=engine)
        seconds = time.monotonic() - begin
    rounds = [told.seconds for told in made.rounds]
    return Way(engine, seconds - sum(rounds), statistics.median(rounds), most.megabytes, made.score)


class _Most:
    """MB of this process and those below it, each by its share (PSS), at most."""

    def __enter__(self) -> None:
        self.megabytes, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            total = 0.0
            me = psutil.Process()
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss / 2**20
                except psutil.Error:  # it has ended meanwhile
                    continue
            self.megabytes = max(self.megabytes, total)
