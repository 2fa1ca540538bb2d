"""Results of evaluations of every kind: from releases, as tables and DataFrames and plots, and back from disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasites.engine.evaluation import score_histogram
from datasites.engine.losses import loss_of, record_scores
from policies.errors import InvalidRequest, WeightsRefused
from policies.privacy.mechanisms import Evaluation
from policies.privacy.outcomes import LOSSES
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.evaluation_tables import ERRORS, steps_of
from policies.schema.targets import natural
from policies.secure_sums.encoding import counted
from researcher.outcome_results import OutcomeResult, in_units
from researcher.releases import Answers
from researcher.results import EvaluationResult, Result, evaluation_of, load
from researcher.secure_sums import sums_reader
from researcher.state import Release, Tensors
from researcher.studies import Evaluation as Evaluated

from tests.datasites.engine.outcome_factories import SCHEMA, evaluation_of as asked, model_of, table_of, training_of  # isort: skip
from tests.datasites.engine.training_factories import exported, source

SUBGROUPS = ("sex", ("age", 40, 65))


def weights_of(loss: str) -> Tensors:
    model, arguments = model_of(loss)
    return {name: np.asarray(value) for name, value in exported(model, *arguments)[1].items()}


def answers_of(mechanism: Evaluation) -> Answers:
    """What two hospitals release of a model as it was made; a third did not answer."""
    model, arguments = model_of(mechanism.loss)
    graph, weights = exported(model, *arguments)
    releases = {}
    for number, name in enumerate(("general", "rural")):
        rows = table_of(400, held_out=400, seed=number)
        tensors = score_histogram(graph, mechanism, SCHEMA, rows, weights, source(number))
        releases[name] = Release(name, "evaluation", 1, tensors, "{}", "")
    return Answers(releases, missing={"paediatric": "It did not answer."})


@pytest.mark.parametrize("loss", LOSSES)
def test_every_outcome_has_figures_by_hospital_and_group(loss: str, tmp_path: Path) -> None:
    mechanism = asked(loss, epsilon=30.0, subgroups=SUBGROUPS)
    result = evaluation_of(answers_of(mechanism), mechanism, None, SCHEMA)
    frame = result.to_frame()
    assert set(frame["hospital"]) == {"general", "rural", "combined"}
    assert set(frame["group"]) == {"", "f", "m", "0 to under 40", "40 to under 65", "65 to 100"}
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    patients = frame[(frame["figure"] == "patients") & (frame["hospital"] == "combined")].set_index("group")["value"]
    assert patients["f"] + patients["m"] == pytest.approx(patients[""], abs=20)
    assert "It did not answer." in str(result)
    assert "40 to under 65" in str(result)
    assert "<table" in result._repr_html_()
    study = Result("s", weights_of(loss), [], (), ("no", "yes"), evaluation=result)
    again = load(study.save(tmp_path / "saved")).evaluation
    assert again is not None
    assert str(again) == str(result)
    assert again.to_frame().equals(frame)
    page = study.report(tmp_path / "report.html").read_text()
    assert "40 to under 65" in page
    if isinstance(result, OutcomeResult):
        assert "40 to under 65" in result.report(tmp_path / "evaluation.html").read_text()
        drawn = result.plot()
        assert len(drawn.axes) == 2
        assert drawn._repr_png_().startswith(b"\x89PNG")
        assert load(tmp_path / "saved").plot() is not None


@pytest.mark.parametrize("loss", LOSSES)
def test_a_sum_says_what_all_hospitals_together_say_and_no_more(loss: str, tmp_path: Path) -> None:
    """The same values and intervals as combined from hospitals by themselves, which nobody can read then."""
    plain = asked(loss, epsilon=30.0, subgroups=SUBGROUPS)
    answers = answers_of(plain)
    expected = evaluation_of(answers, plain, None, SCHEMA).to_frame()
    parties = (Party("General", "11" * 32, 400), Party("Rural", "22" * 32, 400))
    roster = SecureAggregation(threshold=2, hospitals=parties)
    mechanism, tables = replace(plain, secure_aggregation=roster), [one.tensors for one in answers.releases.values()]
    with pytest.raises(InvalidRequest, match="can be read in their sum alone"):
        evaluation_of(answers, mechanism, None, SCHEMA)
    intervals = tables[0][ERRORS].shape[-1] if ERRORS in tables[0] else 1
    steps = steps_of(mechanism, SCHEMA.predicting(mechanism), intervals)
    total = np.sum([counted(one, steps, roster) for one in tables], axis=0, dtype=np.uint32)
    answers.mean = sums_reader(mechanism, SCHEMA)(total, tables[0])
    result = evaluation_of(answers, mechanism, None, SCHEMA)
    found = result.to_frame()
    assert set(found["hospital"]) == {"2 hospitals in a sum", "combined"}
    together = [frame[frame["hospital"] == "combined"].reset_index(drop=True) for frame in (found, expected)]
    numbers = ["value", "low", "high", "error"]
    np.testing.assert_allclose(together[0][numbers], together[1][numbers], rtol=1e-9, atol=1e-9)
    again = load(
        Result("s", weights_of(loss), [], (), ("no", "yes"), evaluation=result).save(tmp_path / "s")
    ).evaluation
    assert again is not None
    assert again.to_frame().equals(found)


def test_accessors_give_what_the_outcome_has_and_say_what_there_is_otherwise() -> None:
    number, time = ("mean_squared_error", "discrete_hazards")
    results = {}
    for loss in (number, time, "multilabel_binary_cross_entropy_with_logits"):
        mechanism = asked(loss, epsilon=30.0)
        results[loss] = evaluation_of(answers_of(mechanism), mechanism, None, SCHEMA)
        assert isinstance(results[loss], OutcomeResult)
    assert set(results[number].mae) == {"general", "rural", "combined"}
    assert results[number].rmse["combined"].value >= results[number].mae["combined"].value
    assert results[number].r2["combined"].value < 1
    assert 0 <= results[time].concordance["combined"].value <= 1
    assert results[time].integrated_brier["combined"].value < 1
    labels = results["multilabel_binary_cross_entropy_with_logits"]
    assert set(labels.auc) == {"stroke", "bleeding", "fall"}
    assert labels.calibration("rural", label="fall").predicted
    with pytest.raises(InvalidRequest, match="There are patients, MAE, RMSE, bias, R²"):
        results[number].figure("AUC")
    with pytest.raises(InvalidRequest, match="AUC is of classes"):
        _ = results[number].auc
    with pytest.raises(InvalidRequest, match="No scores of 'x'"):
        results[number].calibration("x")
    with pytest.raises(InvalidRequest, match="is none of ''"):
        results[number].calibration(label="x")


def test_a_class_without_subgroups_is_read_as_it_was() -> None:
    mechanism = Evaluation(loss="binary_cross_entropy_with_logits", epsilon=1.0, bins=5, target="died")
    answers = answers_of(mechanism)
    for given in (("no", "yes"), None):
        result = evaluation_of(answers, mechanism, given, SCHEMA)
        assert isinstance(result, EvaluationResult)
        assert result.classes == ("no", "yes")
        assert "schema" not in result.about()


def test_scores_of_a_number_without_their_schema_are_refused() -> None:
    mechanism = asked("mean_squared_error")
    with pytest.raises(InvalidRequest, match="say nothing without their schema"):
        evaluation_of(answers_of(mechanism), mechanism, ())


def test_tables_of_another_shape_are_refused() -> None:
    mechanism = asked("discrete_hazards", bins=5)
    answers = answers_of(mechanism)
    other = asked("discrete_hazards", bins=6)
    with pytest.raises(WeightsRefused, match="is not of its shape"):
        evaluation_of(answers, other, None, SCHEMA)


@pytest.mark.parametrize("loss", LOSSES)
def test_outputs_are_read_in_units_as_the_hospitals_score_them(loss: str) -> None:
    training = training_of(loss)
    schema = SCHEMA.predicting(training)
    outputs = np.random.default_rng(1).uniform(0.1, 0.9, (6, model_of(loss)[1][0])).astype(np.float32)
    graph, _ = exported(*[model_of(loss)[0], *model_of(loss)[1]])
    chosen = loss_of(training, schema, graph)
    scored = np.stack([record_scores(torch.from_numpy(output), chosen).numpy() for output in outputs])
    if loss in ("mean_squared_error", "huber"):
        scored = natural(schema.column("pressure"), scored)
        assert scored.min() > 130  # above the middle of [60, 200]
    assert in_units(outputs, training, SCHEMA) == pytest.approx(scored, rel=1e-5)


def test_shares_of_epsilon_are_said_by_table() -> None:
    shares = Evaluated(epsilon=0.6, subgroups=SUBGROUPS).shares(training_of("mean_squared_error"))
    assert [row["table"] for row in shares.rows] == ["all patients", "by sex", "by age"]
    assert all(row["ε"] == pytest.approx(0.2) for row in shares.rows)
