"""A researcher's process that is killed between any two of its writes goes on, and no hospital is charged twice.

Each life of the researcher is a process of its own, forked from here, that ends without a word in the middle of a
write: the new content lies beside the file and has not replaced it. Hospitals keep what they know in files, and live
on.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg  # imported before the forks, which share it  # noqa: F401

import researcher
from policies.privacy.mechanisms import DPSGD
from researcher.network import network_of
from tests.researcher.fake_datasites import FakeDatasite
from tests.researcher.study_models import FluPredictor

KILLED, FAILED = 77, 78
HOSPITALS = {"general": 1000, "rural": 2000}
TRAINING = DPSGD(
    loss="binary_cross_entropy", rounds=2, steps=4, sampling_rate=0.1, clipping_norm=1.0, epsilon=2.0, learning_rate=1.0
)


class KeptDatasite:
    """A hospital that writes down what it knows after every call, as a datasite does."""

    def __init__(self, path: Path, name: str, place: int) -> None:
        self.path, self.name, self._one_at_a_time = path, name, threading.Lock()
        if not path.exists():
            path.write_bytes(pickle.dumps(FakeDatasite(name, patients=HOSPITALS[name], offset=place)))

    @property
    def known(self) -> FakeDatasite:
        return pickle.loads(self.path.read_bytes())

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self._one_at_a_time:
                hospital = self.known
                answer = getattr(hospital, method)(*arguments, **options)
                draft = self.path.with_suffix(".draft")
                draft.write_bytes(pickle.dumps(hospital))
                draft.replace(self.path)
                return answer

        return call


def live(directory: Path, *, kill_at: int = 0) -> int:
    """One life of the researcher, from the first line of the study's file on; its exit code.

    Args:
      kill_at: the write, from 1, that it does not survive.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        study(directory, kill_at)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)


def study(directory: Path, kill_at: int) -> None:
    written, lock, replace = 0, threading.Lock(), Path.replace

    def counted(path: Path, target: Path) -> Path:
        nonlocal written
        with lock:
            written += path.is_relative_to(directory / "study")
            if kill_at and written == kill_at:
                os._exit(KILLED)
            return replace(path, target)

    Path.replace = counted  # type: ignore[method-assign]  # in a process that ends
    hospitals = {
        name: KeptDatasite(directory / f"{name}.pickle", name, place) for place, name in enumerate(sorted(HOSPITALS))
    }
    made = researcher.Study(
        "flu-2026",
        network_of(hospitals).dataset("flu"),
        FluPredictor,
        TRAINING,
        evaluation=researcher.Evaluation(epsilon=0.5),
        state=directory / "study",
        progress=False,
    )
    made.submit()
    made.wait_for_approval(timeout=20)
    result = made.resume() if made.state.read("run") else made.run("FedAdam")
    scores = result.evaluate()
    (directory / "result").write_bytes(pickle.dumps((dict(result.weights), scores.auc["combined"].value)))
    (directory / "writes").write_text(str(written))


def charges(directory: Path) -> dict[str, list[tuple[str, int]]]:
    return {name: KeptDatasite(directory / f"{name}.pickle", name, 0).known.charged for name in HOSPITALS}


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill_at_every_write_and_no_hospital_is_charged_twice(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert live(whole) == 0
    weights, auc = pickle.loads((whole / "result").read_bytes())
    writes = int((whole / "writes").read_text())
    assert writes >= 25  # submissions, the run, initial weights, releases with certificates, rounds, scores
    for number in range(1, writes + 1):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert live(directory, kill_at=number) == KILLED
        assert live(directory) == 0, f"the study did not go on after a kill at write {number}"
        assert charges(directory) == charges(whole), number
        again, auc_again = pickle.loads((directory / "result").read_bytes())
        assert auc_again == auc
        for name in weights:
            np.testing.assert_array_equal(again[name], weights[name])


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_still_ends(tmp_path: Path) -> None:
    lives = 0
    while (ended := live(tmp_path, kill_at=8)) != 0:  # two releases are six writes
        assert ended == KILLED
        lives += 1
        assert lives < 20
    assert lives > 3
    assert all(len(set(charged)) == len(charged) == 3 for charged in charges(tmp_path).values())
