"""Rounds of three real datasites that close with two answers, while one is held up, stands still, or is killed."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from numpy import testing

import researcher
from datasites.directory import new_signing_key
from policies.errors import Unavailable
from policies.release.certificates import verify
from researcher.federated import DatasiteGrid
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess
from tests.relays.models import FluPredictor

NAMES = ("General", "Paediatric", "Rural")
ROUNDS = 5
START_SECONDS = 180.0  # of a datasite on a loaded machine
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


@pytest.fixture
def datasites(request: pytest.FixtureRequest, made_datasite: Path, tmp_path: Path, jobs: Path) -> Iterator[Datasites]:
    """Two of them, or those that a test names, have a runner of their own, which can be held up."""
    alone, started = getattr(request, "param", ("Paediatric", "Rural")), Datasites()
    try:
        for name in NAMES:
            process = DatasiteProcess(made_datasite, tmp_path / name, jobs=None if name in alone else jobs)
            process.set(name=name)
            (tmp_path / name / "certificate.pem").write_text(new_signing_key())
            started[name] = process.start(wait=False)
        for process in started.values():
            process.wait_until_healthy(START_SECONDS)
        yield started
    finally:
        for process in started.values():
            process.stop()


with_shared_runner = pytest.mark.parametrize("datasites", [()], indirect=True)


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


def runner_of(datasite: DatasiteProcess) -> int:
    """The number of the process that forks its jobs."""
    assert datasite.process is not None
    below = psutil.Process(datasite.process.pid).children(recursive=True)
    (found,) = [process.pid for process in below if process.name() == "runner"]
    return found


def hold_up(datasite: DatasiteProcess) -> None:
    """From now on its jobs do not begin: what asks for a round is told that it runs."""
    os.kill(runner_of(datasite), signal.SIGSTOP)


def let_go(datasite: DatasiteProcess) -> None:
    os.kill(runner_of(datasite), signal.SIGCONT)


def before_rounds(monkeypatch: pytest.MonkeyPatch, acts: dict[int, Callable[[], None]]) -> dict[int, Any]:
    """Do something just before hospitals are asked for a round; the weights that each round sent."""
    ask, sent = DatasiteGrid._ask, dict[int, Any]()

    def asked(grid: DatasiteGrid, ready: Any, number: int, weights: Any, *rest: Any) -> Any:
        acts.get(number, lambda: None)()
        sent[number] = weights
        return ask(grid, ready, number, weights, *rest)

    monkeypatch.setattr(DatasiteGrid, "_ask", asked)
    return sent


def check_paid_once(datasites: Datasites, result: Any) -> set[tuple[str, int]]:
    """Each round of a hospital was charged once at most, and every release that was paid for was used."""
    used = Counter((release.hospital, release.round) for release in result.releases)
    assert set(used.values()) == {1}
    for name, process in datasites.items():
        runs = [run["round"] for run in process.json("runs")["runs"] if run["status"] in ("released", "settled")]
        assert len(runs) == len(set(runs)), f"{name} paid a round twice: {runs}"
        assert {round for hospital, round in used if hospital == name} <= set(runs)
        assert "verifies" in process.cli("ledger", "--verify").stdout
    return set(used)


def come_back(datasite: DatasiteProcess) -> None:
    datasite.start(wait=False)
    datasite.wait_until_healthy(START_SECONDS)


@pytest.mark.slow
@pytest.mark.process
def test_a_release_of_a_hospital_that_was_held_up_enters_the_next_round(
    study: Any, datasites: Datasites, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second() -> None:
        hold_up(datasites["Paediatric"])
        let_go(datasites["Rural"])

    hold_up(datasites["Rural"])
    sent = before_rounds(monkeypatch, {2: second, 3: lambda: let_go(datasites["Paediatric"])})
    result = study.run(buffer=2, deadline=60)

    first, next_one = result.rounds[:2]
    assert (sorted(first.answered), first.running) == (["General", "Paediatric"], {"Rural": 1})
    assert (sorted(next_one.answered), next_one.late) == (["General", "Rural"], {"Rural": 1})
    assert next_one.running == {"Paediatric": 2}
    late = {(name, round) for record in result.rounds[2:] for name, round in record.late.items()}
    assert ("Paediatric", 2) in late
    check_paid_once(datasites, result)

    # The second aggregate, from the releases themselves: all hospitals publish as many patients, so it is their mean,
    # of which Rural's is how far it moved from the first weights, over √2.
    kept = {(release.hospital, release.round): release.tensors for release in result.releases}
    for name, begun in sent[1].items():
        joint = (kept["General", 1][name] + kept["Paediatric", 1][name]) / 2
        testing.assert_allclose(sent[2][name], joint, rtol=1e-4, atol=1e-5)
        moved = joint + (kept["Rural", 1][name] - begun) / math.sqrt(2)
        testing.assert_allclose(sent[3][name], (kept["General", 2][name] + moved) / 2, rtol=1e-4, atol=1e-5)
    for release in result.releases:
        assert verify(release.certificate)["round"] == release.round


@pytest.mark.slow
@pytest.mark.process
def test_a_hospital_that_is_killed_in_a_round_comes_back_and_its_release_enters_once(
    study: Any, datasites: Datasites, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rural = datasites["Rural"]
    rural.set(jobs_directory=str(jobs))  # when it is back, which then takes less time
    hold_up(rural)  # so that it has taken its first round, and not released it, when it is killed
    acts = {
        2: rural.kill,
        3: lambda: come_back(rural),
        4: lambda: hold_up(datasites["Paediatric"]),  # so that the fourth round has Rural or does not close
        5: lambda: let_go(datasites["Paediatric"]),
    }
    before_rounds(monkeypatch, acts)
    result = study.run(buffer=2, deadline=240)

    assert [sorted(record.answered) for record in result.rounds[:3]] == [["General", "Paediatric"]] * 3
    assert [record.running for record in result.rounds[:4]] == [*[{"Rural": 1}] * 3, {"Paediatric": 4}]
    assert [record.late for record in result.rounds[:4]] == [{}, {}, {}, {"Rural": 1}]
    assert [record.late.get("Rural") for record in result.rounds].count(1) == 1
    assert "not reached" in result.missing["Rural"][3]
    check_paid_once(datasites, result)
    spent = rural.json("ledger")["balances"][0]["epsilon_spent"]
    again = study.run(buffer=2)  # a study that is complete gives its result again
    assert [record.late for record in again.rounds] == [record.late for record in result.rounds]
    assert rural.json("ledger")["balances"][0]["epsilon_spent"] == spent


@pytest.mark.slow
@pytest.mark.process
@with_shared_runner
def test_a_hospital_that_is_killed_for_good_is_named_and_the_study_goes_on_while_it_has_its_quorum(
    study: Any, datasites: Datasites, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_rounds(monkeypatch, {2: datasites["Rural"].kill, 4: datasites["Paediatric"].kill})
    begun = time.monotonic()
    with pytest.raises(Unavailable) as ended:
        study.run(buffer=2, deadline=240, grace=2)
    assert time.monotonic() - begun < 120  # and not the deadline of each round
    told = str(ended.value)
    assert "Round 4 of 5 has 1 of the 2 hospitals that it needs" in told
    assert "Paediatric at http://" in told
    assert "Rural: not reached" in told
    assert "study.resume()" in told

    come_back(datasites["Paediatric"])
    monkeypatch.undo()
    result = study.resume(deadline=240, grace=2)
    assert [sorted(record.answered) for record in result.rounds[2:]] == [["General", "Paediatric"]] * 3
    assert "not reached" in result.missing["Rural"][5]
    check_paid_once(datasites, result)


@pytest.mark.slow
@pytest.mark.process
@with_shared_runner
def test_a_hospital_whose_process_stands_still_holds_up_no_round(
    study: Any, datasites: Datasites, monkeypatch: pytest.MonkeyPatch
) -> None:
    rural = datasites["Rural"].process
    assert rural is not None
    before_rounds(monkeypatch, {2: lambda: os.kill(rural.pid, signal.SIGSTOP)})
    begun = time.monotonic()
    try:
        result = study.run(buffer=2, deadline=240, grace=2)
    finally:
        os.kill(rural.pid, signal.SIGCONT)
    assert time.monotonic() - begun < 100  # a call that waits for it takes 120
    assert [sorted(record.answered) for record in result.rounds[2:]] == [["General", "Paediatric"]] * 3
    assert "not reached" in result.missing["Rural"][5]
    check_paid_once(datasites, result)
