"""A stock Flower server, in a process of its own, drives the rounds of an approved study."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from policies.errors import InvalidRequest, Unavailable, WrongStatus
from researcher.flower_client import HospitalClient, Server, drive
from tests.factories import free_port
from tests.relays.connections import make_certificates
from tests.researcher.fake_datasites import FakeDatasite
from tests.researcher.flower_server import ServerProcess

Hospitals = dict[str, FakeDatasite]


def _charged(hospitals: Hospitals) -> dict[str, list[int]]:
    return {name: [number for _, number in hospital.charged] for name, hospital in hospitals.items()}


@pytest.mark.process
def test_a_stock_server_drives_three_rounds_over_tls(make_study: Any, hospitals: Hospitals, tmp_path: Path) -> None:
    certificates, study = make_certificates(tmp_path / "certificates"), make_study()
    # The approved learning rate may be said; it is no setting.
    with ServerProcess(tmp_path / "server", "--tls", str(certificates), "--lr", "1.0", "--late", "1") as server:
        lines = drive(study, Server.at(server.address, certificates / "ca.pem"))
        server.ended()
    assert _charged(hospitals) == {name: [1, 2, 3] for name in hospitals}
    assert len(lines) == 3
    assert all("3 rounds of 3 released, ε = " in line for line in lines)
    # Each hospital answers w/2 + its place (0, 1, 2), and weighs 1/4, 1/2, 1/4: w/2 + 1.
    weights = [value.detach().numpy() for value in study.new_model().parameters()]  # in the order of servers
    for number in (1, 2, 3):
        weights = [value / 2 + 1 for value in weights]
        for mine, theirs in zip(weights, server.aggregate(number), strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-5)
        told = server.told(number)["told"]
        assert sorted((each["hospital"], each["round"], each["examples"]) for each in told) == [
            ("general", number, 800),
            ("paediatric", number, 1600),
            ("rural", number, 800),
        ]
        assert all(each["certificate"] for each in told)
    # The server has asked for scores of its last model: it is kept, and can be scored as approved.
    kept = study.state.read_tensors("final")
    for (name, _), theirs in zip(study.new_model().named_parameters(), server.aggregate(3), strict=True):
        np.testing.assert_array_equal(kept[name], theirs)


@pytest.mark.process
def test_a_server_gets_no_more_rounds_than_were_approved(make_study: Any, hospitals: Hospitals, tmp_path: Path) -> None:
    study = make_study()
    with ServerProcess(tmp_path / "server", "--rounds", "5") as server:
        drive(study, Server.at(server.address, None))
        server.ended()
    assert _charged(hospitals) == {name: [1, 2, 3] for name in hospitals}
    assert len(server.told(5)["refused"]) == 3
    assert all("All 3 rounds that" in words for words in server.told(4)["refused"])


@pytest.mark.process
def test_a_server_that_sets_what_was_approved_otherwise_is_refused(
    make_study: Any, hospitals: Hospitals, tmp_path: Path
) -> None:
    study = make_study()
    with ServerProcess(tmp_path / "server", "--rounds", "1", "--lr", "0.5") as server:
        drive(study, Server.at(server.address, None))
        server.ended()
    assert all("sets lr=0.5, and hospitals run what they approved" in words for words in server.told(1)["refused"])
    assert not any(_charged(hospitals).values())


@pytest.mark.process
def test_a_server_that_begins_again_goes_on_with_what_is_left(
    make_study: Any, hospitals: Hospitals, tmp_path: Path
) -> None:
    study = make_study()
    hospitals["rural"].down_in_rounds = {1}
    for rounds in (1, 2):
        with ServerProcess(tmp_path / f"server-{rounds}", "--rounds", str(rounds)) as server:
            drive(study, Server.at(server.address, None), grace=0.05)
            server.ended()
        if rounds == 1:
            (refused,) = server.told(1)["refused"]
            assert "connection refused" in refused
        hospitals["rural"].down_in_rounds = set()
    # The second begins with the same weights: they are answered by the releases of then, and rural's round 1 is made.
    assert _charged(hospitals) == {name: [1, 2] for name in hospitals}


@pytest.mark.process
def test_a_client_that_cannot_go_on_does_not_leave_the_others_waiting(
    make_study: Any, hospitals: Hospitals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study()
    real = HospitalClient.answer

    def interrupted(client: HospitalClient, message: Any) -> Any:
        if client.asked.hospital == "rural":
            raise KeyboardInterrupt
        return real(client, message)

    monkeypatch.setattr(HospitalClient, "answer", interrupted)
    with ServerProcess(tmp_path / "server") as server, pytest.raises(KeyboardInterrupt):
        drive(study, Server.at(server.address, None))
    assert not hospitals["rural"].charged


def test_what_no_server_can_drive_is_refused(make_study: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="without a certificate anybody between reads"):
        Server.at("flower.example:8080", None)
    with pytest.raises(InvalidRequest, match="is no host and port"):
        Server.at("flower.example", None)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        Server.at("flower.example:8080", tmp_path / "none.pem")
    here = Server.at(f"localhost:{free_port()}", None)
    with pytest.raises(WrongStatus, match="was not submitted yet"):
        drive(make_study(submit=False), here)
    study = make_study()
    declared = study.training
    study.training = SimpleNamespace(secure_aggregation="a roster")
    with pytest.raises(InvalidRequest, match="release in sums alone"):
        drive(study, here)
    study.training = declared
    with pytest.raises(Unavailable, match=r"did not answer for 0\.5 s \(UNAVAILABLE\)"):
        drive(study, here, patience=0.5)
    study.run()
    with pytest.raises(WrongStatus, match="was begun with FedAvg here"):
        drive(study, here)
