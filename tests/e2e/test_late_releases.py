"""Rounds of three real datasites that close with two answers, while one is held up or killed and comes back."""

from __future__ import annotations

import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from numpy import testing

import researcher
from datasites.directory import new_signing_key
from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from policies.release.certificates import verify
from researcher.federated import DatasiteGrid
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess
from tests.relays.connections import wait_until
from tests.relays.models import FluPredictor

NAMES = ("General", "Paediatric", "Rural")
ROUNDS = 5
TRAINING = researcher.Training(
    loss="binary_cross_entropy",
    rounds=ROUNDS,
    steps=5,
    sampling_rate=0.2,
    clipping_norm=1.0,
    epsilon=2.0,
    learning_rate=1.0,
)
Datasites = dict[str, DatasiteProcess]


@dataclass(frozen=True)
class Runner:
    """The warm parents of one hospital, which can be held up."""

    pool: JobPool
    directory: Path

    def hold_up(self) -> None:
        """From now on jobs do not begin: who asks for a round is told that it runs."""
        self._send(signal.SIGSTOP)

    def let_go(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        assert self.pool._zygote is not None
        below = psutil.Process(self.pool._zygote.pid).children()
        (runner,) = [process.pid for process in below if process.name() == "runner"]
        os.kill(runner, number)


@pytest.fixture(scope="module")
def warm_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    directory = tmp_path_factory.mktemp("rural-jobs")
    sockets = {kind: job_socket(directory, kind) for kind in KINDS}
    for path in sockets.values():
        path.parent.mkdir()
    pool = JobPool(sockets)
    pool.start()
    yield Runner(pool, directory)
    pool.stop()


@pytest.fixture
def runner(warm_runner: Runner) -> Iterator[Runner]:
    """That of Rural, going again at the end."""
    yield warm_runner
    warm_runner.let_go()


@pytest.fixture
def datasites(made_datasite: Path, tmp_path: Path, jobs: Path, runner: Runner) -> Iterator[Datasites]:
    """Three; Rural has a runner of its own."""
    started = {}
    for name in NAMES:
        process = DatasiteProcess(made_datasite, tmp_path / name, jobs=runner.directory if name == "Rural" else jobs)
        process.set(name=name)
        (tmp_path / name / "certificate.pem").write_text(new_signing_key())
        started[name] = process.start()
    yield started
    for process in started.values():
        process.stop()


@pytest.fixture
def study(datasites: Datasites, tmp_path: Path) -> Any:
    """An approved one."""
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "network.toml").write_text(
        "".join(
            f'[[datasites]]\nname = "{name}"\nurl = "{process.url}"\nemail = "{RESEARCHER}"\n'
            'password_file = "password"\n'
            for name, process in datasites.items()
        )
    )
    cohort = researcher.connect(tmp_path / "network.toml").dataset("flu")
    made = researcher.Study(
        "flu-late", cohort, FluPredictor, TRAINING, state=tmp_path / "study", progress=False, purpose="To test."
    )
    made.submit()
    for process in datasites.values():
        process.approve_all()
    made.wait_for_approval(timeout=60)
    return made


def wait_for_release(datasite: DatasiteProcess) -> None:
    """Return when it has released something, which then is there to be fetched."""
    wait_until(lambda: bool(datasite.json("releases")), datasite.log)


def before_rounds(monkeypatch: pytest.MonkeyPatch, acts: dict[int, Callable[[], None]]) -> dict[int, Any]:
    """Do something just before hospitals are asked for a round; the weights that each round sent."""
    ask, sent = DatasiteGrid._ask, dict[int, Any]()

    def asked(grid: DatasiteGrid, ready: Any, number: int, weights: Any, *rest: Any) -> Any:
        acts.get(number, lambda: None)()
        sent[number] = weights
        return ask(grid, ready, number, weights, *rest)

    monkeypatch.setattr(DatasiteGrid, "_ask", asked)
    return sent


def check_paid_once(datasites: Datasites, result: Any) -> None:
    """Each round of a hospital was charged once at most, and what the study uses is among those."""
    used = Counter((release.hospital, release.round) for release in result.releases)
    assert set(used.values()) == {1}
    for name, process in datasites.items():
        runs = [run["round"] for run in process.json("runs")["runs"] if run["status"] != "void"]
        assert len(runs) == len(set(runs)), f"{name} paid a round twice: {runs}"
        assert {round for hospital, round in used if hospital == name} <= set(runs)
        assert "verifies" in process.cli("ledger", "--verify").stdout


@pytest.mark.slow
@pytest.mark.process
def test_a_release_of_a_hospital_that_was_held_up_enters_the_next_round(
    study: Any, datasites: Datasites, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second() -> None:
        runner.let_go()
        wait_for_release(datasites["Rural"])

    runner.hold_up()
    sent = before_rounds(monkeypatch, {2: second})
    result = study.run(buffer=2, deadline=60)

    first, following = result.rounds[:2]
    assert (sorted(first.answered), first.running) == (["General", "Paediatric"], {"Rural": 1})
    assert following.late == {"Rural": 1}
    (beside,) = set(following.answered) - {"Rural"}
    check_paid_once(datasites, result)

    # The second aggregate, from the releases themselves: all hospitals publish as many patients, so it is their mean,
    # of which Rural's is how far it moved from the first weights, over √2.
    kept = {(release.hospital, release.round): release.tensors for release in result.releases}
    for name, begun in sent[1].items():
        joint = (kept["General", 1][name] + kept["Paediatric", 1][name]) / 2
        testing.assert_allclose(sent[2][name], joint, rtol=1e-4, atol=1e-5)
        moved = joint + (kept["Rural", 1][name] - begun) / math.sqrt(2)
        testing.assert_allclose(sent[3][name], (kept[beside, 2][name] + moved) / 2, rtol=1e-4, atol=1e-5)
    for release in result.releases:
        assert verify(release.certificate)["round"] == release.round


@pytest.mark.slow
@pytest.mark.process
def test_a_hospital_that_is_killed_in_a_round_comes_back_and_its_release_is_paid_once(
    study: Any, datasites: Datasites, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    rural = datasites["Rural"]

    def third() -> None:
        runner.let_go()
        rural.start()

    runner.hold_up()
    before_rounds(monkeypatch, {2: rural.kill, 3: third, 4: lambda: wait_for_release(rural)})
    result = study.run(buffer=2, deadline=60)

    assert [sorted(record.answered) for record in result.rounds[:2]] == [["General", "Paediatric"]] * 2
    assert [record.running for record in result.rounds[:2]] == [{"Rural": 1}] * 2
    late = [record.late for record in result.rounds]
    assert {"Rural": 1} in late[2:]
    assert sum("Rural" in among for among in late if among.get("Rural") == 1) == 1  # it entered one aggregate alone
    check_paid_once(datasites, result)
    spent = rural.json("ledger")["balances"][0]["epsilon_spent"]
    again = study.run(buffer=2)  # a study that is complete gives its result again
    assert [record.late for record in again.rounds] == late
    assert rural.json("ledger")["balances"][0]["epsilon_spent"] == spent
