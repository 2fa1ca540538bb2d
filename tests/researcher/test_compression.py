"""A study whose rounds travel as whole numbers: same model up to the grid, fewer bytes, resumed exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.proto import transport_pb2 as wire
from numpy import testing

from policies.errors import Unavailable
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD, as_dict
from policies.release.compression import DOUBLINGS, compress, grid_step, widened
from policies.release.tensors import digest
from researcher import traffic
from researcher.compression import Carried
from researcher.flower_client import HospitalClient
from researcher.flower_wire import read_weights, written
from researcher.results import load
from tests.researcher.conftest import TRAINING
from tests.researcher.fake_datasites import FakeDatasite


class Compressing(FakeDatasite):
    """Answers with whole numbers, and counts the bytes that an honest connection would."""

    mechanism: DPSGD
    halves: list[bool]

    def run(self, code: str, asset: str, weights: Any, round: int) -> dict[str, Any]:
        sent = sum(value.nbytes for value in weights.values())
        self.halves.append(all(value.dtype == np.float16 for value in weights.values()))
        answer = super().run(code, asset, widened(weights), round)
        traffic.count(sent=sent, received=sum(value.nbytes for value in (answer["release"] or {}).values()))
        return answer

    def _release(self, source: str, weights: Any) -> Any:
        if "evaluate" in source:
            return super()._release(source, weights)
        noise = np.random.default_rng(int(self.offset))
        deviation = grid_step(self.mechanism, round(self.patients * 0.8)) / 0.25
        trained = {name: value + noise.normal(0, deviation, value.shape) for name, value in weights.items()}
        self.trained.append({name: value.astype(np.float32) for name, value in trained.items()})
        return compress(self.trained[-1], weights, self.mechanism, round(self.patients * 0.8))


@pytest.fixture
def hospitals() -> dict[str, Compressing]:
    sizes = {"general": 1000, "paediatric": 2000, "rural": 1000}
    made = {name: Compressing(name, patients=size, offset=place) for place, (name, size) in enumerate(sizes.items())}
    for hospital in made.values():
        hospital.mechanism, hospital.halves, hospital.trained = resolve(replace(TRAINING, compression="int8")), [], []
    return made


@pytest.fixture(autouse=True)
def _approved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts of a plan that these hospitals approved: its mechanism with the noise multiplier found."""
    facts = {"mechanism": as_dict(resolve(replace(TRAINING, compression="int8")))}
    monkeypatch.setattr("researcher.code_requests.plan_facts", lambda request, quote, published, graph: dict(facts))


def test_the_strategy_gets_the_weights_that_whole_numbers_stand_for(make_study, hospitals) -> None:
    study = make_study(training=replace(TRAINING, compression="int8", rounds=1))
    result = study.run("FedAvg")
    step = grid_step(hospitals["general"].mechanism, 800)
    for name, value in result.weights.items():
        expected = sum(
            share * hospitals[hospital].trained[0][name]
            for hospital, share in (("general", 0.25), ("paediatric", 0.5), ("rural", 0.25))
        )
        assert np.abs(value - expected).max() <= step / 2 * 1.01
    for release in result.releases:
        assert release.tensors["hidden.weight"].dtype == np.int8
        assert release.tensors[DOUBLINGS].tolist() == [0, 0, 0, 0]


def test_weights_travel_as_float16_and_digests_are_of_what_a_hospital_begins_from(make_study, hospitals) -> None:
    result = make_study(training=replace(TRAINING, compression="int8")).run()
    for hospital in hospitals.values():
        assert hospital.halves == [True] * 3
    sent = [release.weights_digest for release in result.releases if release.hospital == "rural"]
    assert sent == [record.weights_digest for record in result.rounds]
    kept = hospitals["rural"].releases["rural-0", 1]
    assert kept[0] == result.rounds[0].weights_digest


def test_bytes_are_in_progress_result_and_report(make_study, hospitals, tmp_path, capsys) -> None:
    study = make_study(training=replace(TRAINING, compression="int8"), progress=True)
    result = study.run()
    numbers = sum(value.size for value in result.weights.values())
    assert result.rounds[0].sent_bytes == dict.fromkeys(hospitals, 2 * numbers)
    assert result.rounds[0].received_bytes == dict.fromkeys(hospitals, numbers + 8 * 4)
    said = f"{traffic.in_bytes(2 * numbers)} sent, {traffic.in_bytes(numbers + 32)} received"
    assert said in capsys.readouterr().err
    assert result.table.rows[0]["sent"] == traffic.in_bytes(3 * 2 * numbers)
    assert result.table.rows[0]["received"] == traffic.in_bytes(3 * (numbers + 32))
    page = result.report(tmp_path / "report.html").read_text()
    assert traffic.in_bytes(3 * (numbers + 32)) in page
    result.save(tmp_path / "saved")
    assert load(tmp_path / "saved").rounds[0].received_bytes == result.rounds[0].received_bytes


def test_an_interrupted_study_goes_on_with_the_same_numbers(make_study, hospitals, tmp_path) -> None:
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {3}
    study = make_study(training=replace(TRAINING, compression="int8"))
    with pytest.raises(Unavailable):
        study.run("FedAdam", grace=0.05)
    for hospital in hospitals.values():
        hospital.down_in_rounds = set()
    result = make_study(training=replace(TRAINING, compression="int8"), submit=False).resume()
    again = make_study(training=replace(TRAINING, compression="int8"), submit=False).resume()
    for hospital in hospitals.values():
        assert len(hospital.charged) == 3
    for name in result.weights:
        testing.assert_array_equal(result.weights[name], again.weights[name])


def test_training_that_diverged_at_a_hospital_leaves_it_out(make_study, hospitals, monkeypatch) -> None:
    monkeypatch.setattr(hospitals["rural"], "offset", 7)
    answer = Compressing._release

    def diverged(self: Any, source: str, weights: Any) -> Any:
        release = answer(self, source, weights)
        return release | {DOUBLINGS: np.full(4, -1)} if self.name == "rural" else release

    monkeypatch.setattr(Compressing, "_release", diverged)
    result = make_study(training=replace(TRAINING, compression="int8", rounds=1)).run()
    assert "values that are not finite" in result.missing["rural"][1]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (43_712, "43.7 kB"),
        (999_600, "1 MB"),
        (4e9, "4 GB"),
        (5e12, "5e+03 GB"),
    ],
)
def test_bytes_as_people_read_them(number: int, said: str) -> None:
    assert traffic.in_bytes(number) == said


def test_calls_are_counted_in_the_thread_that_makes_them() -> None:
    traffic.count(sent=1, received=1)  # nobody counts
    with traffic.counting() as outer:
        traffic.count(sent=2, received=3)
    assert (outer.sent, outer.received) == (2, 3)
    assert digest({}) == digest(widened({}))


def test_a_flower_server_gets_the_weights_that_whole_numbers_stand_for(make_study, hospitals) -> None:
    study = make_study(training=replace(TRAINING, compression="int8"))
    (ready, _), sizes = study.requests.approved("training"), study.requests.training_patients()
    initial = {name: value.detach().numpy() for name, value in study.new_model().named_parameters()}
    carried = Carried(study.requests.approved_training(), sizes)
    client = HospitalClient(study, ready["rural"], carried, initial, sizes["rural"])
    told = wire.ServerMessage.FitIns(parameters=written(initial, initial))
    answer = client.answer(wire.ServerMessage(fit_ins=told)).fit_res
    step = grid_step(hospitals["rural"].mechanism, 800)
    got = read_weights(answer.parameters, initial)
    assert got.keys() == initial.keys()
    for name, value in got.items():
        assert np.abs(value - hospitals["rural"].trained[0][name]).max() <= step / 2 * 1.01
    assert hospitals["rural"].halves == [True]
    again = client.answer(wire.ServerMessage(fit_ins=told)).fit_res
    assert again.parameters == answer.parameters
    assert len(hospitals["rural"].charged) == 1
