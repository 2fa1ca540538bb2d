"""A whole study with a hospital that opens no port, while any side is killed at any moment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import researcher
from datasites.directory import identity_key
from policies.errors import PermissionRefused, Unavailable
from policies.privacy.mechanisms import DPSGD
from policies.wire.key_words import fingerprint, words_of
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, free_port, initial_weights, training_source
from tests.relays.connections import DialOutProcess, make_certificates, wait_until
from tests.relays.models import FluPredictor

ROUNDS = 6
TRAINING = DPSGD(
    loss="binary_cross_entropy",
    rounds=ROUNDS,
    steps=400,
    sampling_rate=0.1,
    clipping_norm=1.0,
    epsilon=2.0,
    learning_rate=1.0,
)


def words_at(datasite: DatasiteProcess) -> str:
    """The words of a datasite's key, as its owner reads them out."""
    return words_of(fingerprint(identity_key(datasite.directory).public_key().public_bytes_raw()))


class CoordinateProcess:
    """`researcher coordinate` as a program."""

    def __init__(self, certificates: Path, network: Path, port: int) -> None:
        self.command = [
            *(sys.executable, "-m", "researcher", "coordinate", "--listen", f"127.0.0.1:{port}"),
            *("--certificate", str(certificates / "coordinator.pem"), "--key", str(certificates / "coordinator.key")),
            *("--token-file", str(certificates / "token"), "--network", str(network)),
        ]
        self.out = certificates / "coordinate.out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> CoordinateProcess:
        with self.out.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=os.environ)
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=20)


@pytest.fixture
def parts(datasite: DatasiteProcess, tmp_path: Path) -> Iterator[tuple[DialOutProcess, CoordinateProcess, Path]]:
    """A dial-out, a coordinator that stands, and the network file that names it; all three run."""
    certificates, port = make_certificates(tmp_path / "certificates"), free_port()
    (tmp_path / "password").write_text(PASSWORD)
    network = tmp_path / "network.toml"
    network.write_text(
        f'[coordinator]\naddress = "localhost:{port}"\nca_file = "certificates/ca.pem"\n'
        'token_file = "certificates/token"\n\n'
        f'[[datasites]]\nname = "Rural"\nvia = "coordinator"\nwords = "{words_at(datasite)}"\n'
        f'email = "{RESEARCHER}"\npassword_file = "password"\n'
    )
    coordinate = CoordinateProcess(certificates, network, port).start()
    dial_out = DialOutProcess(datasite.directory, f"localhost:{port}", certificates / "ca.pem").start()
    try:
        dial_out.wait_until_connected()
        yield dial_out, coordinate, network
    finally:
        dial_out.stop()
        coordinate.kill()


def approved(datasite: DatasiteProcess, network: Any, state: Path) -> Any:
    study = researcher.Study(
        "flu-2026", network.dataset("flu"), FluPredictor, TRAINING, state=state, progress=False, purpose="To test."
    )
    study.submit()
    datasite.approve_all()
    study.wait_for_approval(timeout=60)
    return study


@pytest.mark.slow
@pytest.mark.process
def test_a_study_survives_kills_between_it_and_the_hospital_and_pays_once(
    datasite: DatasiteProcess, parts: tuple[DialOutProcess, CoordinateProcess, Path], tmp_path: Path
) -> None:
    """Dial-out and coordinator are killed in turn, wherever the study is, until it is done."""
    dial_out, coordinate, network = parts
    study = approved(datasite, researcher.connect(network), tmp_path / "study")
    ended, results = threading.Event(), list[Any]()

    def run() -> None:
        try:
            results.append(study.run(min_train_nodes=1))
        except Exception as error:
            results.append(error)
        finally:
            ended.set()

    running = threading.Thread(target=run)
    running.start()
    kills = 0
    while not ended.is_set() and kills < 12:
        victim: Any = (dial_out, coordinate)[kills % 2]
        victim.kill()
        victim.start()
        kills += 1
        ended.wait((1.6, 0.2, 0.7)[kills % 3])  # the first before anything is connected again
    running.join(240)
    assert ended.is_set()
    assert kills >= 3
    assert not isinstance(results[0], Exception), results[0]
    releases = datasite.json("releases")
    assert sorted(release["round"] for release in releases) == list(range(1, ROUNDS + 1))  # each once
    assert len(datasite.json("runs")["runs"]) == ROUNDS
    assert "verifies" in datasite.cli("ledger", "--verify").stdout
    assert all(np.isfinite(value).all() for value in results[0].weights.values())
    assert coordinate.stop() == 0


@pytest.mark.slow
@pytest.mark.process
def test_a_datasite_that_was_killed_gives_its_stored_answer_again(
    datasite: DatasiteProcess, parts: tuple[DialOutProcess, CoordinateProcess, Path]
) -> None:
    """Before a round, and after one whose answer never came: it is charged once, and the same tensors come."""
    rural = researcher.connect(parts[2]).datasites["Rural"]
    asset = rural.describe()["datasets"][0]["asset"]
    code = rural.submit(training_source(), asset)
    datasite.approve_all()
    datasite.kill()
    datasite.start()
    weights = {name: value.numpy() for name, value in initial_weights().items()}
    first = released(rural, code, asset, weights)
    datasite.kill()
    datasite.start()
    spent = datasite.json("datasets")["populations"][0]["epsilon_spent"]
    again = released(rural, code, asset, weights)
    assert again["certificate"] == first["certificate"]
    for name, value in first["release"].items():
        np.testing.assert_array_equal(again["release"][name], value)
    assert datasite.json("datasets")["populations"][0]["epsilon_spent"] == spent > 0
    assert len(datasite.json("runs")["runs"]) == 1


def released(rural: Any, code: str, asset: str, weights: dict[str, Any]) -> dict[str, Any]:
    """Round 1 once it is released, asked again where nobody answers."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            answer: dict[str, Any] = rural.run(code, asset, weights, 1)
            if answer["status"] == "released":
                return answer
        time.sleep(0.2)
    raise AssertionError("no release")


@pytest.mark.process
def test_a_researcher_with_other_words_sends_nothing_not_even_the_password(
    datasite: DatasiteProcess, tmp_path: Path
) -> None:
    """Directly too: where the network file has words, the first key that is shown must be theirs."""
    words = words_at(datasite)
    entry = {"name": "Rural", "url": datasite.url, "email": RESEARCHER, "password": PASSWORD}
    assert "flu" in repr(researcher.connect([{**entry, "words": words}]))
    other = " ".join(reversed(words.split()))
    with pytest.raises(PermissionRefused, match=f"shows a key with the words '{words}'"):
        researcher.connect([{**entry, "words": other}])


@pytest.mark.process
def test_a_dial_out_is_small(parts: tuple[DialOutProcess, CoordinateProcess, Path]) -> None:
    """Resident memory, and processor time of five idle seconds."""
    process = parts[0].process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 120_000  # kB; 60,000 were measured
    before = _processor_seconds(process.pid)
    time.sleep(5)
    assert _processor_seconds(process.pid) - before < 0.25


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.process
def test_a_dial_out_says_why_it_is_not_connected(datasite: DatasiteProcess, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    dial_out = DialOutProcess(datasite.directory, f"localhost:{free_port()}", certificates / "ca.pem").start()
    try:
        wait_until(lambda: "it does not answer" in dial_out.log(), dial_out.log)
        assert "connecting since" in datasite.cli("status").stdout
    finally:
        dial_out.stop()
    assert "ended since" in datasite.cli("status").stdout
    (connection,) = datasite.json("status")["dial_out"]
    assert (connection["calls"], connection["losses"]) == (0, 0)
