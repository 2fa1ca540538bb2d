"""Learning curves: points are asked once and replayed, rules read released figures, and unused rounds go back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy import testing  # at its import it starts a program, which no quick test may

import researcher
from policies.errors import InvalidRequest, Unavailable
from policies.privacy.mechanisms import Evaluation
from researcher.curves import LearningCurve, Point, figure_names
from researcher.figures import Estimate
from researcher.outcome_results import OutcomeResult
from researcher.studies import Evaluation as Declared
from tests.researcher.conftest import TRAINING

SIX = replace(TRAINING, rounds=6)
SCORED = Declared(epsilon=0.05)


def _curve(values, schema, *, loss="binary_cross_entropy"):
    """A curve whose first figure is as given, by round."""

    class Drawn(Point):
        def figure(self, name):
            return {"combined": Estimate(values[self.round], 0.01)}

    mechanism = Evaluation(loss=loss, epsilon=0.05, rounds=len(values) or 1)
    return LearningCurve(tuple(Drawn(number, None, {}) for number in values), mechanism, schema)


@pytest.fixture
def schema(network):
    return network.dataset("flu").schema


def _study(make_study, **options):
    return make_study(**({"training": SIX, "curve": SCORED, "every": 2} | options))


def _ends_after(number):
    def rule(curve):
        return f"That is {number}." if any(point.round == number for point in curve.points) else ""

    return rule


def test_a_curve_is_a_request_of_its_own_with_a_round_for_each_point(make_study):
    study = _study(make_study, submit=False, every=4)
    request = study.requests.requests[-1]
    assert (request.role, request.function, request.mechanism.rounds) == ("curve", "flu_2026_curve", 1)
    assert request.mechanism.epsilon == 0.05
    assert "A learning curve: scores the model after each 4 rounds of flu_2026." in request.source
    assert "flu_2026_curve" in str(study.check())


def test_every_point_is_asked_once_and_charged_as_it_is_asked(make_study, hospitals):
    result = _study(make_study).run()
    assert [point.round for point in result.curve.points] == [2, 4, 6]
    for name, hospital in hospitals.items():
        assert [charge for charge in hospital.charged if charge[0] == f"{name}-1"] == [
            (f"{name}-1", number) for number in (1, 2, 3)
        ]
    assert set(result.curve.figure("accuracy")[4]) == {"general", "paediatric", "rural", "combined"}
    assert {release.role for release in result.releases} == {"training", "curve"}
    assert result.ended == ""


def test_each_point_scores_the_joint_model_of_its_round(make_study, hospitals):
    training = _study(make_study, every=6).run()
    (name, number), (sent, _) = next(
        (key, kept) for key, kept in hospitals["rural"].releases.items() if key[0] == "rural-1"
    )
    assert (name, number) == ("rural-1", 1)
    assert sent == researcher.state.digest(training.weights)


def test_a_rule_ends_training_and_unused_rounds_go_back_once(make_study, hospitals):
    study = _study(make_study, stop_when=_ends_after(2))
    result = study.run()
    assert [record.round for record in result.rounds] == [1, 2]
    assert result.ended == "After round 2 of 6: That is 2."
    assert result.ended in repr(result)
    for name, hospital in hospitals.items():
        assert hospital.charged == [(f"{name}-0", 1), (f"{name}-0", 2), (f"{name}-1", 1)]
        assert hospital.statuses == {f"{name}-0": "withdrawn", f"{name}-1": "withdrawn"}
        assert hospital.calls.count("withdraw") == 2
        said = hospital.written[f"{name}-0"][-1]["text"]
        assert said == (
            "The study has ended. After round 2 of 6: That is 2. What no run has used goes back to the budget."
        )
    calls = {name: list(hospital.calls) for name, hospital in hospitals.items()}
    again = study.run()
    assert {name: hospital.calls for name, hospital in hospitals.items()} == calls  # nobody is asked anything
    testing.assert_array_equal(again.weights["output.bias"], result.weights["output.bias"])


def test_a_study_that_has_ended_never_goes_on_whatever_the_rule_says_then(make_study, hospitals):
    first = _study(make_study, stop_when=_ends_after(2)).run()
    charged = {name: list(hospital.charged) for name, hospital in hospitals.items()}
    again = _study(make_study, stop_when=None).run()
    assert again.ended == first.ended
    assert {name: hospital.charged for name, hospital in hospitals.items()} == charged


def test_an_interrupted_study_replays_its_points_without_paying_again(make_study, hospitals):
    study = _study(make_study)
    hospitals["rural"].down_in_rounds = {5}
    hospitals["general"].down_in_rounds = {5}
    with pytest.raises(Unavailable, match="Round 5 of 6"):
        study.run(deadline=0.2, grace=0.05)
    hospitals["rural"].down_in_rounds = hospitals["general"].down_in_rounds = set()
    before = {name: list(hospital.charged) for name, hospital in hospitals.items()}
    result = study.resume()
    assert [point.round for point in result.curve.points] == [2, 4, 6]
    for name, hospital in hospitals.items():
        assert hospital.charged[: len(before[name])] == before[name]
        assert len(hospital.charged) == len(set(hospital.charged)) == 9


def test_a_hospital_that_does_not_answer_when_rounds_go_back_is_asked_again(make_study, hospitals):
    study, rural = _study(make_study, stop_when=_ends_after(2)), hospitals["rural"]
    withdraw = rural.withdraw

    def away(code):
        raise Unavailable("rural does not answer.")

    rural.withdraw = away
    study.run()
    assert set(rural.statuses.values()) == {"approved"}
    rural.withdraw = withdraw
    study.run()
    assert set(rural.statuses.values()) == {"withdrawn"}
    assert all(hospital.calls.count("withdraw") == 2 for name, hospital in hospitals.items() if name != "rural")


def test_training_goes_on_where_nobody_approved_the_curve(make_study, hospitals):
    study = _study(make_study, stop_when=researcher.reached(0.0))
    for name, hospital in hospitals.items():
        hospital.statuses[f"{name}-1"], hospital.decided_with[f"{name}-1"] = "denied", "No scores."
    result = study.run()
    assert len(result.rounds) == 6
    assert result.curve.figure() == {}
    assert result.curve.best() is None
    assert result.curve.points[0].missing["rural"] == "denied. No scores."
    assert "nobody scored" in str(result.curve)
    assert "Nobody scored" in result.curve.sections()[0]


def test_a_point_of_scores_for_other_weights_is_not_believed(make_study):
    study = _study(make_study)
    study.run()
    closed = study.state.read("curve/0002")
    study.state.write("curve/0002", closed | {"weights_digest": "00"})
    with pytest.raises(Unavailable, match=r"Remove curve/0002\.json there and resume"):
        study.run()


def test_no_better_waits_for_its_rounds_and_then_says_why(schema):
    rule = researcher.no_better(for_rounds=4, than=0.02)
    assert rule(_curve({}, schema)) == ""
    assert rule(_curve({2: 0.7, 4: 0.6}, schema)) == ""  # 4 - 4: no round before the last four
    assert rule(_curve({2: 0.7, 4: 0.71, 6: 0.73}, schema)) == ""  # 0.73 is more than 0.02 above 0.70
    said = rule(_curve({2: 0.7, 4: 0.71, 6: 0.715}, schema))
    assert said == "AUC was no better by more than 0.02 in 4 rounds than before: at best 0.715 after 0.7."


def test_rules_know_figures_that_are_better_when_lower(schema):
    number = {"loss": "mean_squared_error"}
    values = {2: 5.0, 4: 4.0, 6: 4.5}
    target = replace(
        _curve(values, schema, **number), mechanism=Evaluation(target="temperature", epsilon=0.1, **number)
    )
    assert figure_names(target.mechanism, schema)[0] == "MAE"
    assert target.best() == 4
    assert (
        researcher.no_better(for_rounds=2)(target) == "MAE was no better in 2 rounds than before: at best 4.5 after 4."
    )
    assert researcher.reached(4.6)(target) == "MAE reached 4.5 in round 6."
    assert researcher.reached(4.4)(target) == ""


def test_reached_looks_at_the_newest_point_alone(schema):
    assert researcher.reached(0.8)(_curve({2: 0.9, 4: 0.7}, schema)) == ""
    assert researcher.reached(0.8)(_curve({2: 0.7, 4: 0.8}, schema)) == "AUC reached 0.8 in round 4."


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"curve": None}, "every= and stop_when= read a curve"),
        ({"every": 7}, r"every=7 is outside \[1, 6\]"),
        ({"every": 0}, r"every=0 is outside \[1, 6\]"),
        ({"every": True}, "every=True is outside"),
        ({"curve": Declared(epsilon=0.05, rounds=2)}, "rounds=2 of a curve follow from every"),
        ({"curve": 0.05}, "curve=0.05 is not of its kind"),
        ({"stop_when": "later"}, "is no rule"),
        ({"stop_when": researcher.reached(0.9, figure="AUROC")}, "No figure 'AUROC' is on this curve. There are AUC"),
        ({"stop_when": lambda curve: 5}, "stop_when said 5"),
        ({"stop_when": lambda curve: 1 / 0}, "stop_when failed with ZeroDivisionError"),
    ],
)
def test_what_a_curve_cannot_be_is_refused_before_anybody_is_asked(make_study, hospitals, options, why):
    with pytest.raises(InvalidRequest, match=why):
        _study(make_study, submit=False, **options)
    assert all("submit" not in hospital.calls for hospital in hospitals.values())


def test_a_result_with_a_curve_is_saved_reported_and_drawn(make_study, tmp_path):
    result = _study(make_study, stop_when=_ends_after(4)).run()
    loaded = researcher.load(result.save(tmp_path / "saved"))
    assert loaded.ended == result.ended
    assert str(loaded.curve) == str(result.curve)
    assert loaded.curve.best("accuracy") == result.curve.best("accuracy")
    page = result.report(tmp_path / "report.html").read_text()
    assert "Learning curve" in page
    assert "After round 4 of 6: That is 4." in page
    assert len(result.plot().axes) == 2
    assert len(result.curve.plot("accuracy").axes) == 1
    frame = result.curve.to_frame()
    assert set(frame["round"]) == {2, 4}
    assert set(frame["figure"]) == {"AUC", "accuracy"}


def test_the_mean_auc_of_labels_is_no_surer_than_its_patients_allow():
    labels = {
        "a": {"combined": Estimate(0.8, 0.03, 0.04)},
        "b": {"combined": Estimate(0.6, 0.04, 0.02)},
    }

    class Labels(OutcomeResult):
        auc = labels

    found = Point(1, object.__new__(Labels), {}).figure("mean AUC")["combined"]
    assert found.value == pytest.approx(0.7)
    assert found.noise_error == pytest.approx(0.025)  # √(0.03² + 0.04²) / 2
    assert found.sampling_error == pytest.approx(0.03)  # as if it were the same for all labels


def test_weights_that_are_not_finite_are_not_sent_to_be_scored(make_study, hospitals):
    study = _study(make_study, training=replace(TRAINING, rounds=2))
    scored = study._scored_rounds(deadline=1, grace=1)
    infinite = {name: np.full_like(value, np.inf) for name, value in study._initial().items()}
    assert scored(2, infinite) is False
    assert scored.curve.points[0].missing == {"all": "the model's weights are not finite."}
    assert all("run" not in hospital.calls for hospital in hospitals.values())


def test_a_study_that_ends_early_averages_the_aggregates_that_it_has(make_study):
    result = _study(make_study, stop_when=_ends_after(2), average_last=4).run()
    assert sorted(result.averaged) == [1, 2]  # and not the weights that round 1 began with
    mean = sum(part["output.bias"] for part in result.averaged.values()) / 2
    testing.assert_allclose(result.weights["output.bias"], mean, rtol=1e-6)


def test_a_curve_of_sums_and_sums_without_a_roster_are_refused(make_study):
    summed = replace(SCORED, secure_aggregation=True)
    with pytest.raises(InvalidRequest, match=r"curve=.* this one has none\. Begin it with secure_aggregation=True"):
        _study(make_study, submit=False, curve=summed)
    with pytest.raises(InvalidRequest, match=r"this one has none\. Begin it with secure_aggregation=True"):
        make_study(submit=False, evaluation=summed)
