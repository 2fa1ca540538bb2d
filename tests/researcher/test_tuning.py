"""Settings are compared at one price that says all of it, and those that fall behind give the rest back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import researcher
from policies.errors import InvalidRequest, WrongStatus
from researcher.tuning import Behind
from tests.researcher.conftest import TRAINING
from tests.researcher.study_models import FluPredictor
from tests.researcher.test_curves import _curve

SETTINGS = tuple(replace(TRAINING, rounds=4, learning_rate=rate) for rate in (0.1, 1.0, 3.0))


@pytest.fixture
def make_tuning(network: Any, tmp_path: Any) -> Any:
    def make(settings: Any = SETTINGS, **options: Any) -> Any:
        given = {
            "curve": researcher.Evaluation(epsilon=0.05),
            "every": 2,
            "state": tmp_path / "tuning",
            "progress": False,
        }
        return researcher.Tuning("flu-tuning", network.dataset("flu"), FluPredictor, settings, **(given | options))

    return make


def _scores(right: float) -> dict[str, Any]:
    """A release in which a share of patients is called right, 1000 of each class."""
    low = np.zeros(20)
    low[2], low[17] = 1000 * right, 1000 * (1 - right)
    return {"scores": np.stack([low, low[::-1]])}


@pytest.fixture
def accurate(hospitals: Any) -> Any:
    """Make hospitals answer each point of a setting with a share called right, by setting and point."""

    def answer(by_setting: dict[str, list[float]]) -> None:
        for hospital in hospitals.values():
            asked: dict[str, int] = {}
            release = hospital._release

            def scored(source: str, weights: Any, release: Any = release, asked: Any = asked) -> Any:
                if "evaluate" not in source:
                    return release(source, weights)
                name = source[4 : source.index("(")].removesuffix("_curve")[-1]
                asked[name] = asked.get(name, 0) + 1
                return _scores(by_setting[name][asked[name] - 1])

            hospital._release = scored

    return answer


def _approved(tuning: Any) -> Any:
    tuning.submit()
    tuning.wait_for_approval(timeout=5)
    return tuning


def test_the_best_setting_is_found_and_those_behind_end_early(make_tuning, hospitals, accurate):
    accurate({"1": [0.6, 0.7], "2": [0.7, 0.8], "3": [0.5, 0.9]})
    found = _approved(make_tuning(figure="accuracy")).run()
    assert found.best == 1
    assert found.training == SETTINGS[1]
    assert found.result.ended == ""
    assert found.results[2].ended.endswith("accuracy 0.5 is behind 0.7 of the best setting after round 2.")
    assert [len(result.rounds) for result in found.results] == [4, 4, 2]
    for hospital in hospitals.values():  # 4 + 2, 4 + 2, and 2 + 1 of the one that fell behind
        assert len(hospital.charged) == len(set(hospital.charged)) == 15
        assert list(hospital.statuses.values()).count("withdrawn") == 2
    assert [row["learning_rate"] for row in found.table.rows] == [0.1, 1.0, 3.0]
    assert [row["best"] for row in found.table.rows] == ["", "best", ""]


def test_running_again_pays_for_nothing_twice(make_tuning, hospitals, accurate):
    accurate({"1": [0.6, 0.7], "2": [0.7, 0.8], "3": [0.5, 0.9]})
    tuning = _approved(make_tuning(figure="accuracy"))
    first = tuning.run()
    charged = {name: list(hospital.charged) for name, hospital in hospitals.items()}
    again = make_tuning(figure="accuracy").run()
    assert (again.best, str(again)) == (first.best, str(first))
    assert {name: hospital.charged for name, hospital in hospitals.items()} == charged


def test_a_setting_within_the_margin_goes_on(make_tuning, accurate):
    accurate({"1": [0.7, 0.7], "2": [0.65, 0.8], "3": [0.65, 0.6]})
    found = _approved(make_tuning(figure="accuracy", than=0.06)).run()
    assert [result.ended for result in found.results] == ["", "", ""]
    assert found.best == 1


def test_the_check_says_what_all_settings_cost_together(make_tuning, hospitals):
    check = make_tuning().check()
    assert len(check.checks) == 3
    # Each fake request says that it takes a budget of 6 from 0 to 2: six of them come to 12 at most.
    assert [row["after, at most"] for row in check.together.rows] == [12.0, 12.0, 12.0]
    assert [row["surely fits"] for row in check.together.rows] == [False, False, False]
    assert "All settings together" in str(check)
    assert all("submit" not in hospital.calls for hospital in hospitals.values())


def test_without_scores_there_is_no_best_setting(make_tuning, hospitals):
    tuning = make_tuning()
    tuning.submit()
    for hospital in hospitals.values():
        for code, source in hospital.sources.items():
            if "_curve(" in source:
                hospital.statuses[code] = "denied"
    with pytest.raises(WrongStatus, match="No hospital scored any setting"):
        tuning.run()


def test_behind_compares_the_same_round_alone(network):
    schema = network.dataset("flu").schema
    rule = Behind(_curve({2: 0.7, 4: 0.8}, schema), 0.0, "AUC")
    assert rule(_curve({2: 0.6, 4: 0.9}, schema)) == ""
    assert rule(_curve({2: 0.9, 4: 0.79}, schema)) == "AUC 0.79 is behind 0.8 of the best setting after round 4."
    assert rule(_curve({3: 0.1}, schema)) == ""


@pytest.mark.parametrize(
    ("settings", "options", "why"),
    [
        (SETTINGS[:1], {}, "no list of 2 to 20"),
        (5, {}, "no list of 2 to 20"),
        ((SETTINGS[0], SETTINGS[0]), {}, "Two settings are alike"),
        ((SETTINGS[0], replace(SETTINGS[0], loss="binary_cross_entropy_with_logits")), {}, "another loss"),
        (SETTINGS, {"every": 3}, "rounds=4 is no multiple of every=3"),
        (SETTINGS, {"than": -1}, "than=-1 is outside"),
        (SETTINGS, {"figure": "AUROC"}, "No figure 'AUROC'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anybody_is_asked(make_tuning, settings, options, why):
    with pytest.raises(InvalidRequest, match=why):
        make_tuning(settings, **options)
