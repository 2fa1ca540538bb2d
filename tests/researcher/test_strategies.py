"""Every strategy that Flower has, by name and as an instance: it works, or says why not before anything is charged."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import strategy as flower
from numpy import testing

from policies.errors import InvalidRequest, Unavailable
from researcher.strategies import NAMES, NOT_OFFERED, WRAPPERS
from tests.researcher.conftest import TRAINING
from tests.researcher.fake_datasites import FakeDatasite

ALL = [
    name
    for name in flower.__all__
    if inspect.isclass(kind := getattr(flower, name)) and issubclass(kind, flower.Strategy) and name != "Strategy"
]
QUORUM = {"fraction_evaluate": 0.0, "min_train_nodes": 2, "min_available_nodes": 2}
CLIPPING = {
    "DifferentialPrivacyServerSideFixedClipping": {"noise_multiplier": 0.1, "clipping_norm": 1.0},
    "DifferentialPrivacyServerSideAdaptiveClipping": {"noise_multiplier": 0.1},
    "DifferentialPrivacyClientSideFixedClipping": {"noise_multiplier": 0.1, "clipping_norm": 1.0},
    "DifferentialPrivacyClientSideAdaptiveClipping": {"noise_multiplier": 0.1},
}


@pytest.fixture
def hospitals() -> dict[str, FakeDatasite]:
    """Seven: as many as Bulyan needs against one that lies."""
    return {f"hospital-{number}": FakeDatasite(f"hospital-{number}", offset=number / 10) for number in range(7)}


def _instance(name: str) -> flower.Strategy:
    kind = getattr(flower, name)
    if name in CLIPPING:
        inner = flower.FedAvg(**(QUORUM | {"min_train_nodes": 7, "min_available_nodes": 7}))
        return kind(inner, num_sampled_clients=7, **CLIPPING[name])
    if name == "FedXgbCyclic":
        return kind(fraction_evaluate=0.0)
    own: dict[str, Any] = {
        "QFedAvg": {"client_learning_rate": 0.1},
        "FedProx": {"proximal_mu": 0.1},
        "Bulyan": {"num_malicious_nodes": 1, "min_train_nodes": 7},
    }
    return kind(**(QUORUM | own.get(name, {})))


def _charged(hospitals: dict[str, FakeDatasite]) -> list[Any]:
    return [charge for hospital in hospitals.values() for charge in hospital.charged]


def test_every_strategy_of_flower_is_offered_or_explained() -> None:
    assert sorted(ALL) == sorted([*NAMES, *NOT_OFFERED])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("instance", [False, True])
def test_what_is_offered_runs_by_name_and_as_an_instance(make_study, name: str, instance: bool) -> None:
    study = make_study(training=replace(TRAINING, proximal_mu=0.1 if name == "FedProx" else 0.0))
    options = CLIPPING.get(name, {"num_malicious_nodes": 1, "min_train_nodes": 7} if name == "Bulyan" else {})
    result = study.run(_instance(name)) if instance else study.run(name, **options)
    assert [len(record.answered) for record in result.rounds] == [7, 7, 7]
    assert all(np.isfinite(value).all() for value in result.weights.values())


@pytest.mark.parametrize("name", NOT_OFFERED)
@pytest.mark.parametrize("instance", [False, True])
def test_what_cannot_work_says_why_before_anything_is_charged(make_study, hospitals, name: str, instance: bool) -> None:
    study = make_study()
    with pytest.raises(InvalidRequest) as refused:
        study.run(_instance(name) if instance else name)
    assert NOT_OFFERED[name] in str(refused.value)
    assert not _charged(hospitals)
    assert all("run" not in hospital.calls for hospital in hospitals.values())


class _OwnSettings(flower.FedAvg):
    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        config["lr"] = 0.05
        return super().configure_train(server_round, arrays, config, grid)


class _TwoModels(flower.FedAvg):
    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        for message in super().configure_train(server_round, arrays, config, grid):
            message.content["control"] = arrays
            yield message


def _aggregating_nothing(number: int, replies: Any) -> tuple[None, None]:
    return None, None


class _Nothing(flower.FedAvg):
    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        return _aggregating_nothing(server_round, replies)


def _wrapped(inner: flower.Strategy, **options: Any) -> flower.Strategy:
    settings = {"noise_multiplier": 0.1, "clipping_norm": 1.0, "num_sampled_clients": 7}
    return flower.DifferentialPrivacyServerSideFixedClipping(inner, **(settings | options))


UNREAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a learning rate of the hospitals": ("FedAdam", {"eta_l": 0.5}, r"eta_l=0\.5, which no hospital reads\. The hosp"),
    "the same in an instance": (flower.FedYogi(**QUORUM, eta_l=0.5), {}, r"FedYogi has eta_l=0\.5"),
    "the same in a wrapped one": (_wrapped(flower.FedAdam(**QUORUM, eta_l=0.5)), {}, r"FedAdam has eta_l=0\.5"),
    "weights by what is private": ("FedAvg", {"weighted_by_key": "loss"}, "weighted_by_key='loss', which no hospital"),
    "scores by hospitals": ("FedAvg", {"fraction_evaluate": 0.5}, r"0\.5: hospitals score a model only as an approved"),
    "settings of its own": (_OwnSettings(**QUORUM), {}, r"it sends lr=0\.05, which no hospital reads"),
    "two models": (_TwoModels(**QUORUM), {}, "it sends 2 sets of arrays"),
    "a pull in a wrapped one": (
        _wrapped(flower.FedProx(**QUORUM, proximal_mu=0.3)),
        {},
        r"FedProx with proximal_mu=0\.3 does not match",
    ),
    "fewer than the wrapper counts on": (
        _wrapped(flower.FedAvg(**QUORUM)),
        {},
        r"when 2 of 7 hospitals answered: The strategy aggregated nothing .* min_train_nodes says so",
    ),
    "a wrapper in a wrapper": (
        "DifferentialPrivacyServerSideFixedClipping",
        {"noise_multiplier": 0.1, "clipping_norm": 1.0, "wrapped": "DifferentialPrivacyServerSideAdaptiveClipping"},
        "wraps others itself",
    ),
    "a wrapper without its norm": (
        "DifferentialPrivacyServerSideFixedClipping",
        {"noise_multiplier": 0.1},
        "missing 1 required positional argument: 'clipping_norm'",
    ),
    "nothing": (_Nothing(**QUORUM), {}, "when 7 of 7 hospitals answered: The strategy aggregated nothing in round 1"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_settings_that_no_hospital_reads_are_refused_before_anything_is_charged(make_study, hospitals, name) -> None:
    strategy, options, said = UNREAD[name]
    study = make_study()
    with pytest.raises(InvalidRequest, match=said):
        study.run(strategy, **options)
    assert not _charged(hospitals)
    assert len(study.run("FedAvg").rounds) == 3


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_a_wrapper_by_name_wraps_what_it_is_told(make_study, name: str) -> None:
    result = make_study().run(name, wrapped="FedMedian", **CLIPPING[name])
    assert len(result.rounds) == 3


def test_a_strategys_own_noise_is_the_same_when_a_study_goes_on_and_nobody_else_knows_it(
    make_study, hospitals, tmp_path
) -> None:
    name = "DifferentialPrivacyServerSideFixedClipping"
    hospitals["hospital-3"].down_in_rounds = {3}
    study = make_study()
    before = np.random.get_state()[1].tolist()
    with pytest.raises(Unavailable, match="has 6 of the 7"):
        study.run(name, grace=0.01, **CLIPPING[name])
    assert np.random.get_state()[1].tolist() == before
    hospitals["hospital-3"].down_in_rounds = set()
    resumed = study.resume()
    again = study.resume()
    other = make_study(state=tmp_path / "other", submit=False)
    for hospital in hospitals.values():
        hospital.releases, hospital.sources = {}, {}
    other.submit()
    another = other.run(name, **CLIPPING[name])
    for tensor in resumed.weights:
        testing.assert_array_equal(resumed.weights[tensor], again.weights[tensor])
    assert any((resumed.weights[tensor] != another.weights[tensor]).any() for tensor in resumed.weights)


class _NothingWhereOneIsMissing(flower.FedAvg):
    """Sound in a rehearsal, where made-up hospitals have the same sizes as the real ones."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        return (None, None) if server_round == self.silent else super().aggregate_train(server_round, replies)


def test_a_round_that_aggregates_to_nothing_stops_the_study_which_may_go_on_with_another_strategy(
    make_study, hospitals
) -> None:
    strategy = _NothingWhereOneIsMissing(**QUORUM)
    strategy.silent = 3  # a rehearsal has two rounds
    study = make_study()
    with pytest.raises(Unavailable, match=r"aggregated nothing in round 3\. .* study\.run\('FedAvg'\)"):
        study.run(strategy)
    assert len(study.run("FedAvg").rounds) == 3
    assert all(len(hospital.charged) == 3 for hospital in hospitals.values())


def test_arrays_and_settings_may_have_other_names(make_study) -> None:
    result = make_study().run("FedAvg", arrayrecord_key="model", configrecord_key="settings")
    assert len(result.rounds) == 3
