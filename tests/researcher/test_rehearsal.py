"""A strategy that cannot work is found before a hospital is charged, and the study can still be run with another."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Bulyan, DifferentialPrivacyServerSideFixedClipping, FedAvg, Krum
from numpy import testing

from policies.errors import InvalidRequest, Unavailable, WrongStatus
from tests.researcher.conftest import TRAINING

SOUND = {"fraction_evaluate": 0.0, "min_train_nodes": 2, "min_available_nodes": 2}


class _Raising(FedAvg):
    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        raise KeyError("num_examples")


class _Leaving(FedAvg):
    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        raise SystemExit(1)


class _RaisingAtTheQuorum(FedAvg):
    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        if any(reply.has_error() for reply in replies):
            raise ValueError("three hospitals or none")
        return super().aggregate_train(server_round, replies)


class _OfAnotherModel(FedAvg):
    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        other = ArrayRecord({"hidden.weight": next(iter(arrays.values()))})
        return super().configure_train(server_round, other, config, grid)


class _Nothing(FedAvg):
    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        return []


class _Diverging(FedAvg):
    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        arrays, metrics = super().aggregate_train(server_round, replies)
        for name in arrays:
            arrays[name] = type(arrays[name])(np.full(arrays[name].shape, np.nan, dtype=np.float32))
        return arrays, metrics


class _WithALock(FedAvg):
    def __init__(self) -> None:
        super().__init__(**SOUND)
        self.lock = threading.Lock()


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a class": (FedAvg, {}, r"is not offered\. Use one of FedAvg, .* or an instance"),
    "a list": (["FedAvg"], {}, "is not offered"),
    "an array": (np.array(["FedAvg", "FedAdam"]), {}, "is not offered"),
    "a quorum of more": ("FedAvg", {"min_train_nodes": 4}, r"min_train_nodes=4 is more than the 3 hospitals .* most 3"),
    "more to begin": ("FedAvg", {"min_available_nodes": 9}, "min_available_nodes=9 is more than the 3 hospitals"),
    "a quorum of none": ("FedAvg", {"min_train_nodes": 0}, r"The strategy's min_train_nodes=0 is outside \[1, inf\]"),
    "half a hospital": ("FedAvg", {"min_train_nodes": 1.5}, r"min_train_nodes=1\.5 is not a whole number"),
    "a share above 1": ("FedAvg", {"fraction_train": 1.5}, r"The strategy's fraction_train=1\.5 is outside \(0, 1\]"),
    "a share below 0": ("FedAvg", {"fraction_train": -0.1}, r"fraction_train=-0\.1 is outside"),
    "no share": ("FedAvg", {"fraction_train": 0}, r"fraction_train=0 is outside \(0, 1\]"),
    "a share that is no number": ("FedAvg", {"fraction_train": "half"}, "fraction_train='half' is not a number"),
    "a share that is not finite": ("FedAvg", {"fraction_train": float("nan")}, "fraction_train=nan is not a number"),
    "evaluations above 1": ("FedAvg", {"fraction_evaluate": 2.0}, r"fraction_evaluate=2\.0 is outside \[0, 1\]"),
    "an instance's quorum": (FedAvg(**(SOUND | {"min_train_nodes": 7})), {}, "min_train_nodes=7 is more than the 3"),
    "an instance's share": (FedAvg(**(SOUND | {"fraction_train": 3})), {}, r"fraction_train=3 is outside \(0, 1\]"),
    "a wrapped quorum": (
        DifferentialPrivacyServerSideFixedClipping(FedAvg(**(SOUND | {"min_train_nodes": 7})), 1.0, 1.0, 2),
        {},
        "min_train_nodes=7 is more than the 3",
    ),
    "a learning rate that is a text": ("FedAdam", {"eta": "large"}, r"^FedAdam"),
    "an option that cannot be kept": ("FedAvg", {"train_metrics_aggr_fn": print}, "must be numbers, texts or lists"),
    "too few for it": (Bulyan(**SOUND, num_malicious_nodes=3), {}, "Bulyan failed in a rehearsal with made-up weights"),
    "one that waits for more to evaluate": (
        FedAvg(fraction_evaluate=1.0, min_evaluate_nodes=9),
        {},
        "waits for more than the 3 hospitals",
    ),
    "one that raises": (
        _Raising(**SOUND),
        {},
        r"when 3 of 3 hospitals answered: KeyError: 'num_examples'\. Nothing was asked or charged",
    ),
    "one that raises where one is missing": (
        _RaisingAtTheQuorum(**SOUND),
        {},
        "when 2 of 3 hospitals answered: ValueError: three hospitals or none",
    ),
    "one that leaves": (_Leaving(**SOUND), {}, "SystemExit: 1"),
    "one of another model": (_OfAnotherModel(**SOUND), {}, "the weights that it sends are hidden.weight "),
    "one that asks nobody": (_Nothing(**SOUND), {}, "it asks no hospital"),
    "one that diverges": (_Diverging(**SOUND), {}, "is not finite"),
    "one that cannot be copied": (_WithALock(), {}, "_WithALock cannot be copied .* Take out of it what cannot"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_strategy_is_found_before_anything_is_charged_and_the_study_goes_on_with_another(
    make_study, hospitals, name, monkeypatch
):
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", lambda seconds: None)
    strategy, options, said = BAD[name]
    study = make_study()
    before = random.getstate()
    with pytest.raises(InvalidRequest, match=said):
        study.run(strategy, **options)
    assert random.getstate() == before
    assert all("run" not in hospital.calls and not hospital.charged for hospital in hospitals.values())
    assert len(study.run("FedAvg").rounds) == 3


@pytest.mark.parametrize(
    "options", [{"deadline": 0}, {"deadline": -1.0}, {"deadline": "soon"}, {"grace": -1}, {"deadline": float("inf")}]
)
def test_seconds_that_are_none_are_refused_before_anything_is_asked(make_study, hospitals, options):
    with pytest.raises(InvalidRequest, match=r"(deadline|grace)=.* Give seconds\."):
        make_study().run(**options)
    assert all("run" not in hospital.calls for hospital in hospitals.values())


def test_other_rounds_than_were_approved_are_refused_before_anything_is_charged(make_study, hospitals):
    make_study()
    changed = make_study(submit=False, training=replace(TRAINING, rounds=5))
    with pytest.raises(WrongStatus, match="with another source was submitted"):
        changed.run()
    assert not any(hospital.charged for hospital in hospitals.values())


def test_a_study_that_lost_its_quorum_goes_on_with_fewer_and_pays_nothing_twice(make_study, hospitals):
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {2, 3}
    study = make_study()
    with pytest.raises(Unavailable, match=r"go on with fewer: study\.resume\(min_train_nodes=1\)"):
        study.run(grace=0.01)
    result = study.resume(grace=0.01, min_train_nodes=1)
    assert [sorted(record.answered) for record in result.rounds[1:]] == [["paediatric"], ["paediatric"]]
    assert hospitals["paediatric"].charged == [("paediatric-0", number) for number in (1, 2, 3)]
    again = make_study(submit=False).resume()  # as it went on, in another process
    testing.assert_array_equal(again.weights["hidden.weight"], result.weights["hidden.weight"])


def test_a_study_that_lost_its_quorum_in_round_one_can_begin_with_another_strategy(make_study, hospitals):
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {1}
    study = make_study()
    with pytest.raises(Unavailable):
        study.run("FedAdam", grace=0.01)
    hospitals["general"].down_in_rounds = set()
    assert len(study.run("FedAvg", grace=0.01).rounds) == 3
    assert hospitals["paediatric"].charged == [("paediatric-0", number) for number in (1, 2, 3)]


def test_another_strategy_is_refused_once_it_would_send_other_weights(make_study, hospitals):
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {2}
    study = make_study()
    with pytest.raises(Unavailable):
        study.run("FedAvg", grace=0.01)
    charged = {name: list(hospital.charged) for name, hospital in hospitals.items()}
    with pytest.raises(
        WrongStatus, match="Round 2 was asked of paediatric with other weights than this strategy sends"
    ):
        study.run("FedAdam")
    assert {name: hospital.charged for name, hospital in hospitals.items()} == charged
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = set()
    assert len(study.resume().rounds) == 3


def test_a_strategy_that_fails_later_names_the_round_and_goes_on_once_mended(make_study, hospitals):
    class Failing(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            if server_round == 3 and self.fails:
                raise ZeroDivisionError("division by zero")
            return super().aggregate_train(server_round, replies)

    strategy = Failing(**SOUND)
    strategy.fails = True
    study = make_study()
    with pytest.raises(
        InvalidRequest,
        match=r"Failing failed after 3 of 3 closed rounds: ZeroDivisionError: .* study\.resume\(strategy=",
    ):
        study.run(strategy)
    strategy.fails = False
    assert len(study.resume(strategy).rounds) == 3
    assert len(study.resume().rounds) == 3
    for name, hospital in hospitals.items():
        assert hospital.charged == [(f"{name}-0", number) for number in (1, 2, 3)]


@pytest.mark.parametrize("strategy", [Krum(**SOUND), FedAvg(**SOUND)])
def test_a_sound_instance_is_rehearsed_and_not_changed(make_study, strategy):
    before = dict(vars(strategy))
    assert len(make_study().run(strategy).rounds) == 3
    assert vars(strategy) == before
