"""Rounds go on with a quorum, name who is missing, resume exactly, and never pay twice."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg
from flwr.supercore.task_identity import TaskIdentity
from numpy import testing  # at its import it starts a program, which no quick test may

import researcher
from policies.errors import InvalidRequest, Unavailable, WrongStatus
from researcher.strategies import NAMES, WRAPPERS
from tests.researcher.conftest import TRAINING
from tests.researcher.fake_datasites import FakeDatasite
from tests.researcher.study_models import FluPredictor


def _last_bias(result):
    return float(result.weights["output.bias"][0])


def test_federated_average_weighs_hospitals_by_public_size(make_study):
    study = make_study(training=replace(TRAINING, rounds=1))
    initial = {name: value.detach().numpy() for name, value in study.new_model().named_parameters()}
    result = study.run()
    # Each hospital answers w/2 + its place (0, 1, 2), and weighs 1/4, 1/2, 1/4: w/2 + 1.
    for name, value in initial.items():
        testing.assert_allclose(result.weights[name], value / 2 + 1, rtol=1e-6)


def test_every_hospital_is_charged_once_per_round(make_study, hospitals):
    result = make_study().run()
    assert [each.round for each in result.rounds] == [1, 2, 3]
    for name, hospital in hospitals.items():
        assert hospital.charged == [(f"{name}-0", number) for number in (1, 2, 3)]
    assert len(result.releases) == 9
    assert result.missing == {}


@pytest.mark.parametrize("strategy", [name for name in NAMES if name not in {"FedProx", "Bulyan", *WRAPPERS}])
def test_flowers_strategies_run_by_name(make_study, strategy):
    result = make_study().run(strategy)
    assert all(np.isfinite(value).all() for value in result.weights.values())
    assert [len(each.answered) for each in result.rounds] == [3, 3, 3]


def test_server_momentum_moves_each_tensor_by_its_own_moves(make_study):
    # Weights w become w/2 + o at a hospital, with o = 0, 1, 2 of weights 1/4, 1/2, 1/4: the average is w/2 + 1.
    study = make_study()
    result = study.run("FedAvgM", server_momentum=0.5)
    for name, initial in study._initial().items():
        weights, moves = initial.astype(float), 0.0
        for _ in range(3):
            moves = 0.5 * moves + (weights / 2 + 1 - weights)
            weights = weights + moves
        np.testing.assert_allclose(result.weights[name], weights, atol=1e-5)


def test_fedprox_takes_the_proximal_term_that_was_approved(make_study):
    make_study(training=replace(TRAINING, proximal_mu=0.1)).run("FedProx")


def test_fedprox_without_an_approved_proximal_term_is_refused(make_study):
    with pytest.raises(InvalidRequest, match="declare the same"):
        make_study().run("FedProx")


def test_unknown_and_unfit_strategies_are_refused_with_the_list(make_study):
    study = make_study()
    with pytest.raises(InvalidRequest, match="Use one of FedAvg"):
        study.run("FedBest")
    with pytest.raises(InvalidRequest, match="training loss, which is private"):
        study.run("QFedAvg")
    with pytest.raises(InvalidRequest, match="FedAvg: "):
        study.run("FedAvg", no_such_option=1)


def test_a_strategy_instance_runs_unchanged(make_study):
    result = make_study().run(FedAvg(fraction_train=1.0, min_train_nodes=3, min_available_nodes=3))
    assert len(result.rounds) == 3


def test_a_denied_hospital_is_left_out_and_named(make_study, hospitals):
    hospitals["rural"].answer_to_submit = "denied"
    result = make_study().run()
    assert set(result.missing) == {"rural"}
    assert result.missing["rural"][1].startswith("denied")
    assert all(set(each.answered) == {"general", "paediatric"} for each in result.rounds)


def test_a_hospital_out_of_budget_is_not_asked_and_named(make_study, hospitals):
    hospitals["rural"].short = 0.7
    study = make_study()
    assert "0.7 short" in str(study.check().reasons["rural"])
    result = study.run()
    assert "budget" in result.missing["rural"][1]
    assert "submit" not in hospitals["rural"].calls


def test_a_hospital_that_is_down_for_a_round_comes_back(make_study, hospitals):
    hospitals["rural"].down_in_rounds = {2}
    result = make_study().run(grace=0.05)
    assert [sorted(each.answered) for each in result.rounds] == [
        ["general", "paediatric", "rural"],
        ["general", "paediatric"],
        ["general", "paediatric", "rural"],
    ]
    assert "connection refused" in result.missing["rural"][2]


def test_a_slow_hospital_is_left_out_at_the_deadline(make_study, hospitals):
    hospitals["general"].slow_in_rounds = {1}
    result = make_study().run(deadline=0.2)
    assert "not done with round 1 after 0.2 s" in result.missing["general"][1]
    assert "general" in result.rounds[1].answered


def test_a_failed_round_is_left_out_and_says_that_it_was_charged(make_study, hospitals):
    hospitals["general"].failing_rounds = {2}
    result = make_study().run()
    assert "the charge stays" in result.missing["general"][2]


def test_below_the_quorum_the_error_names_who_is_missing_and_how_to_go_on(make_study, hospitals):
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {2}
    study = make_study()
    with pytest.raises(Unavailable) as error:
        study.run(grace=0.05)
    assert "Round 2 of 3 has 1 of the 2 hospitals" in str(error.value)
    assert "study.resume()" in str(error.value)
    assert set(error.value.missing) == {"general", "rural"}


def test_resuming_pays_nothing_twice_and_gives_what_an_uninterrupted_study_gives(
    make_study, hospitals, tmp_path, network
):
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {3}
    study = make_study()
    with pytest.raises(Unavailable):
        study.run("FedAdam", grace=0.05)
    charged = {name: list(each.charged) for name, each in hospitals.items()}
    assert charged["paediatric"] == [("paediatric-0", 1), ("paediatric-0", 2), ("paediatric-0", 3)]
    for hospital in hospitals.values():
        hospital.down_in_rounds = set()
    again = make_study(submit=False)  # another process would make it anew like this
    result = again.resume()
    for name, hospital in hospitals.items():
        assert hospital.charged == [(f"{name}-0", number) for number in (1, 2, 3)]
    whole = make_study(state=tmp_path / "other", submit=False)
    for hospital in hospitals.values():
        hospital.releases, hospital.charged, hospital.sources = {}, [], {}
    whole.submit()
    expected = whole.run("FedAdam")
    for name in expected.weights:
        testing.assert_array_equal(result.weights[name], expected.weights[name])


def test_a_closed_round_is_replayed_without_the_hospital(make_study, hospitals):
    study = make_study()
    first = study.run()
    for hospital in hospitals.values():
        hospital.down = True
    again = study.resume()
    testing.assert_array_equal(first.weights["hidden.weight"], again.weights["hidden.weight"])


def test_resuming_with_another_strategy_is_refused_before_anything_is_asked(make_study, hospitals):
    study = make_study()
    study.run("FedAvg")
    calls = hospitals["general"].calls.count("run")
    with pytest.raises(WrongStatus, match="was begun with FedAvg"):
        study.run("FedAdam")
    assert hospitals["general"].calls.count("run") == calls


def test_an_instance_resumes_with_its_own_state_made_anew(make_study, hospitals):
    strategy = FedAdam(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {3}
    study = make_study()
    with pytest.raises(Unavailable):
        study.run(strategy, grace=0.05)
    for hospital in hospitals.values():
        hospital.down_in_rounds = set()
    result = study.resume()
    assert len(result.rounds) == 3
    with pytest.raises(WrongStatus, match=r"resume\(strategy=\.\.\.\) needs it"):
        make_study(submit=False).resume()


def test_sampling_of_hospitals_is_seeded_and_leaves_the_global_generator_alone(make_study, tmp_path, hospitals):
    random.seed(1)
    before = random.getstate()
    options = {"fraction_train": 0.34, "min_train_nodes": 1, "min_available_nodes": 2}
    first = make_study(seed=7).run("FedAvg", **options)
    assert random.getstate() == before
    for hospital in hospitals.values():
        hospital.releases, hospital.charged, hospital.sources = {}, [], {}
    second = make_study(seed=7, state=tmp_path / "other").run("FedAvg", **options)
    assert [sorted(each.answered) for each in first.rounds] == [sorted(each.answered) for each in second.rounds]
    assert all(len(each.answered) == 1 for each in first.rounds)


def test_a_release_that_is_not_finite_is_left_out_and_does_not_end_the_others_aggregate(make_study, hospitals):
    hospitals["general"].offset = float("nan")
    result = make_study().run()
    assert "values that are not finite" in result.missing["general"][1]
    assert all(np.isfinite(value).all() for value in result.weights.values())


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_weights_that_are_not_finite_stop_the_study_with_advice(make_study, hospitals):
    for hospital in hospitals.values():
        hospital.offset = 3e38  # finite in round 1, and half of it more in round 2
    with pytest.raises(Unavailable, match="smaller learning_rate"):
        make_study().run()


def test_one_hospital_alone_is_a_cohort_of_one(network, tmp_path):
    import researcher
    from tests.researcher.study_models import FluPredictor

    study = researcher.Study(
        "local", network.dataset("flu").only("rural"), FluPredictor, TRAINING, state=tmp_path / "local", progress=False
    )
    study.submit()
    assert [list(each.answered) for each in study.run().rounds] == [["rural"]] * 3


def test_two_processes_cannot_run_one_study(make_study):
    study = make_study()
    with study.state.lock(), pytest.raises(Unavailable, match="Another process is running this study"):
        study.run()


def test_studies_run_beside_each_other_as_they_do_alone(network, hospitals, tmp_path, monkeypatch):
    """Flower samples hospitals from one generator of the whole process; here three studies take turns at it."""

    def study(number, kind):
        made = researcher.Study(
            f"flu-{kind}-{number}", network.dataset("flu"), FluPredictor, TRAINING,
            state=tmp_path / f"{kind}-{number}", seed=number, progress=False,
        )  # fmt: skip
        made.submit()
        return made

    def run(made):
        return made.run(fraction_train=0.4, min_train_nodes=1, min_available_nodes=3)

    def slow(self, *arguments):  # so that rounds of several studies are under way at once
        time.sleep(0.02)
        return answer(self, *arguments)

    answer = FakeDatasite.run
    monkeypatch.setattr(FakeDatasite, "run", slow)
    before = random.getstate()
    alone = [run(study(number, "alone")) for number in range(4)]
    beside = [study(number, "beside") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, beside))
    assert random.getstate() == before
    assert TaskIdentity._task_id is None
    for one, other in zip(alone, together, strict=True):
        assert [sorted(each.answered) for each in one.rounds] == [sorted(each.answered) for each in other.rounds]
        for name, value in one.weights.items():
            assert (value == other.weights[name]).all()
    assert len({str([sorted(each.answered) for each in one.rounds]) for one in alone}) > 1  # seeds do matter
