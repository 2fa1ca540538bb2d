"""A model as the average of its last aggregates: what it is, what it costs, that anybody can recompute it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import researcher
from policies.errors import InvalidRequest
from policies.release.tensors import digest, from_bytes, to_bytes
from researcher.averaging import average
from tests.researcher.conftest import TRAINING

pytestmark = pytest.mark.quick

FIVE = replace(TRAINING, rounds=5)


def aggregates_of(result):
    """Every round's aggregate, by round, from the releases themselves: hospitals weigh 1/4, 1/2, 1/4 (FedAvg)."""
    shares = {"general": 0.25, "paediatric": 0.5, "rural": 0.25}
    return {
        record.round: {
            name: sum(
                shares[release.hospital] * release.tensors[name]
                for release in result.releases
                if release.role == "training" and release.round == record.round
            )
            for name in result.weights
        }
        for record in result.rounds
    }


def test_the_model_is_the_mean_of_the_last_aggregates(make_study):
    result = make_study(training=FIVE, average_last=3).run()
    aggregates = aggregates_of(result)
    for name, weights in result.weights.items():
        wanted = (aggregates[3][name] + aggregates[4][name] + aggregates[5][name]) / 3
        np.testing.assert_allclose(weights, wanted, rtol=0, atol=1e-6)
        assert weights.dtype == np.float32
        assert not np.allclose(weights, aggregates[5][name], rtol=0, atol=1e-6)
    assert sorted(result.averaged) == [3, 4, 5]
    assert "the model an average of the last 3 aggregates" in repr(result)


def test_an_average_asks_hospitals_for_nothing_else_and_may_be_chosen_afterwards(make_study, hospitals):
    last = make_study(training=FIVE).run()
    asked = {name: list(hospital.calls) for name, hospital in hospitals.items()}
    averaged = make_study(training=FIVE, average_last=5, submit=False).run()
    again = make_study(training=FIVE, submit=False).run()
    assert all(hospital.calls.count("run") == asked[name].count("run") for name, hospital in hospitals.items())
    assert digest(again.weights) == digest(last.weights) != digest(averaged.weights)
    assert [release.stem for release in averaged.releases] == [release.stem for release in last.releases]


def test_the_average_with_server_momentum_is_of_what_was_sent(make_study):
    result = make_study(training=FIVE, average_last=2).run("FedAvgM", server_momentum=0.9)
    (sent,) = {release.weights_digest for release in result.releases if release.round == 5}
    assert digest(result.averaged[4]) == sent
    assert digest(average([result.averaged[4], result.averaged[5]])) == digest(result.weights)


def test_an_evaluation_is_of_the_average(make_study, hospitals):
    study = make_study(training=FIVE, average_last=4, evaluation=researcher.Evaluation(epsilon=0.5))
    result = study.run()
    result.evaluate()
    scored = {release.weights_digest for release in result.releases if release.role == "evaluation"}
    assert scored == {digest(result.weights)}


@pytest.mark.parametrize("average_last", [0, 6, 2.0, True, "3"])
def test_more_than_the_rounds_or_no_whole_number_is_refused_by_name(make_study, average_last):
    with pytest.raises(InvalidRequest, match=r"average_last=.* is not a whole number from 1.* to 5"):
        make_study(training=FIVE, average_last=average_last, submit=False)


def test_a_saved_average_is_recomputed_when_it_is_read(make_study, tmp_path):
    saved = make_study(training=FIVE, average_last=3).run().save(tmp_path / "result")
    assert json.loads((saved / "result.json").read_text())["averaged"] == [3, 4, 5]
    assert sorted(researcher.load(saved).averaged) == [3, 4, 5]


@pytest.mark.parametrize("path", ["weights.safetensors", "averaged/0004.safetensors"])
def test_a_saved_model_that_is_not_the_average_of_its_aggregates_is_refused(make_study, tmp_path, path):
    saved = make_study(training=FIVE, average_last=3).run().save(tmp_path / "result")
    _shift(saved / path, 0.5)
    with pytest.raises(InvalidRequest, match="weights that are not the average of 3 aggregates"):
        researcher.load(saved)


def test_a_saved_aggregate_that_no_hospital_was_sent_is_refused(make_study, tmp_path):
    # Two aggregates change places, so that their average stays as it was.
    saved = make_study(training=FIVE, average_last=3).run().save(tmp_path / "result")
    one, other = saved / "averaged/0003.safetensors", saved / "averaged/0004.safetensors"
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    with pytest.raises(InvalidRequest, match=r"an aggregate of round [34] that general was not sent"):
        researcher.load(saved)


def test_without_averaging_a_result_is_saved_as_ever(make_study, tmp_path):
    saved = make_study().run().save(tmp_path / "result")
    assert "averaged" not in json.loads((saved / "result.json").read_text())
    assert not (saved / "averaged").exists()


def _shift(path, by):
    tensors = from_bytes(path.read_bytes())
    path.write_bytes(to_bytes({name: (value + np.float32(by)).astype(np.float32) for name, value in tensors.items()}))


def test_a_study_with_a_suggested_training_runs_as_suggested(make_study, network):
    suggested = researcher.Training.suggest(network.dataset("flu"), epsilon=2.0, rounds=10)
    study = make_study(training=suggested)
    assert study.training == suggested.training
    result = study.run()
    assert study.state.read("run")["strategy"]["name"] == "FedAvgM"
    assert study.state.read("run")["strategy"]["options"] == {"server_momentum": 0.4}
    assert sorted(result.averaged) == [9, 10]
    assert digest(study.resume().weights) == digest(result.weights)


def test_a_suggestion_may_be_overridden(make_study, network):
    suggested = researcher.Training.suggest(network.dataset("flu"), epsilon=2.0, rounds=4)
    study = make_study(training=suggested, average_last=3)
    assert sorted(study.run("FedAvg").averaged) == [2, 3, 4]
    assert study.state.read("run")["strategy"]["name"] == "FedAvg"
