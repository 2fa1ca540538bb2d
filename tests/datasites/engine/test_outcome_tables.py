"""Tables of predictions beside outcomes: whose cells they are, what one patient moves, and subgroups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datasites.engine.evaluation import score_histogram
from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.losses import loss_of, record_scores
from policies.errors import UnsupportedMechanism
from policies.privacy import accountant
from policies.privacy.accountant import pure_divergence
from policies.privacy.mechanisms import as_dict, mechanism_from
from policies.privacy.outcomes import LOSSES
from policies.release.evaluation_tables import ERROR_UNITS, EvaluationTable, evaluation_tables
from tests.datasites.engine.outcome_factories import (
    FEATURES,
    HORIZON,
    INTERVALS,
    LABELS,
    SCHEMA,
    evaluation_of,
    model_of,
    table_of,
)
from tests.datasites.engine.training_factories import exported, source

Matrix = npt.NDArray[np.float64]
SUBGROUPS = ("sex", ("age", 40, 65))
OTHERS = [name for name in LOSSES if "cross_entropy" not in name or "multi" in name]


@pytest.fixture(params=["lanes", "places"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with both engines, the first where this processor has its kernels."""
    kernels = None
    if request.param == "lanes":
        try:
            kernels = compiled._load(compiled.directory(), compiled.level_of_this_processor())
        except KernelsMissing as error:
            pytest.skip(str(error))
    monkeypatch.setattr(compiled, "_loaded", kernels)
    return str(request.param)


def answered(loss: str, rows: Matrix, *, epsilon: float = 1.0, seed: int = 0, **changes: object) -> dict[str, Matrix]:
    model, arguments = model_of(loss)
    graph, weights = exported(model, *arguments)
    return score_histogram(graph, evaluation_of(loss, epsilon=epsilon, **changes), SCHEMA, rows, weights, source(seed))


def tables(loss: str, **changes: object) -> dict[str, EvaluationTable]:
    made = evaluation_of(loss, **changes)
    return {table.name: table for table in evaluation_tables(made, SCHEMA.predicting(made), model_of(loss)[1][0])}


def predicted(loss: str, rows: Matrix) -> Matrix:
    """What the model says of each row, one after the other, by torch."""
    model, arguments = model_of(loss)
    graph, weights = exported(model, *arguments)
    made = evaluation_of(loss)
    schema = SCHEMA.predicting(made)
    run, chosen = forward(graph), loss_of(made, schema, graph)
    with torch.no_grad():
        records = torch.from_numpy(schema.inputs(rows))
        return torch.stack([record_scores(run(weights, record), chosen).double() for record in records]).numpy()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_one_patient_moves_each_table_by_what_its_noise_is_for(loss: str, seed: int) -> None:
    rows = table_of(60, held_out=60, each=3, seed=seed)
    with_, without = (answered(loss, table, subgroups=SUBGROUPS) for table in (rows, rows[:-3]))
    wanted = tables(loss, subgroups=SUBGROUPS)
    assert with_.keys() == wanted.keys()
    spent = 0.0
    for name, table in wanted.items():
        steps = np.abs(with_[name] - without[name]).sum() / table.step
        assert with_[name].shape == table.shape
        labels = len(LABELS) if "multilabel" in loss else 1
        if table.kind == "scores":
            assert steps == labels  # one cell, of one group; or one of each label
            spent += table.epsilon * labels
        else:
            assert steps <= INTERVALS * ERROR_UNITS
            spent += table.epsilon * INTERVALS * ERROR_UNITS
    assert 0.999 < spent <= 1.0  # all of ε, and no more


@pytest.mark.parametrize("loss", OTHERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300])
def test_whatever_stands_in_a_row_it_counts_once(loss: str, value: float) -> None:
    rows = table_of(20, held_out=20)
    rows[:, 2:] = value
    found, sizes = answered(loss, rows, epsilon=100.0, subgroups=SUBGROUPS), tables(loss, subgroups=SUBGROUPS)
    for name, table in sizes.items():
        if table.kind == "scores":
            assert round(found[name].sum()) == 20 * (len(LABELS) if "multilabel" in loss else 1)


def test_numbers_are_counted_by_prediction_and_outcome() -> None:
    rows = table_of(80, held_out=80)
    found = answered("mean_squared_error", rows, epsilon=100.0)["scores"]
    outputs = predicted("mean_squared_error", rows)[:, 0]
    expected = np.zeros((5, 5))
    outcome = np.minimum((rows[:, 2 + FEATURES] - 60) / 140 * 5, 4).astype(int)
    np.add.at(expected, (np.clip((outputs + 1) / 2 * 5, 0, 4).astype(int), outcome), 1)
    assert (found == expected).all()


def test_counts_are_counted_by_rate_and_value() -> None:
    rows = table_of(80, held_out=80)
    found = answered("poisson", rows, epsilon=100.0, bins=30)["scores"]
    assert found.shape == (30, 21)  # a cell for each of 0 to 20 visits
    expected = np.zeros((30, 21))
    rates = predicted("poisson", rows)[:, 0]
    np.add.at(expected, (np.clip(rates / 20 * 30, 0, 29).astype(int), rows[:, 3 + FEATURES].astype(int)), 1)
    assert (found == expected).all()


def test_labels_are_counted_each_by_truth_and_score() -> None:
    rows = table_of(80, held_out=80)
    found = answered("multilabel_binary_cross_entropy_with_logits", rows, epsilon=100.0)["scores"]
    scores, truths = (
        predicted("multilabel_binary_cross_entropy_with_logits", rows),
        rows[:, 6 + FEATURES : 9 + FEATURES],
    )
    for label in range(3):
        expected = np.zeros((2, 5))
        np.add.at(expected, (truths[:, label].astype(int), (scores[:, label] * 5).astype(int)), 1)
        assert (found[label] == expected).all()


def test_times_are_counted_by_what_is_known_and_risk_and_errors_added_up() -> None:
    rows = table_of(120, held_out=120)
    found = answered("discrete_hazards", rows, epsilon=100.0)
    survival = predicted("discrete_hazards", rows)
    scores, errors = np.zeros((2 * INTERVALS + 1, 5)), np.zeros((2, INTERVALS))
    ends = HORIZON * np.arange(1, INTERVALS + 1) / INTERVALS
    for row, curve in zip(rows, survival, strict=True):
        time, event = row[4 + FEATURES], row[5 + FEATURES] > 0
        if event and time <= HORIZON:
            status = interval = int(np.searchsorted(ends, time))
            errors[1, interval] += (curve[interval:] ** 2).sum()
        else:
            interval = int((ends <= time).sum())
            status = 2 * INTERVALS if interval == INTERVALS else INTERVALS + interval
        errors[0, :interval] += (1 - curve[:interval]) ** 2
        scores[status, int((1 - curve[-1]) * 5)] += 1
    assert (found["scores"] == scores).all()
    assert scores[:INTERVALS].sum() > 20  # there are events,
    assert scores[INTERVALS : 2 * INTERVALS].sum() > 20  # and patients who were censored
    # Each squared error was rounded to 1/64, off by a 1/128 at most; the noise has a scale of J / 50 here.
    assert np.abs(found["errors"] - errors).max() < 120 * INTERVALS / 128 + 3


def test_groups_of_a_column_are_disjoint_and_make_up_the_whole() -> None:
    rows = table_of(90, held_out=90)
    found = answered("mean_squared_error", rows, epsilon=100.0, subgroups=SUBGROUPS)
    for name in ("scores/sex", "scores/age"):
        assert (found[name].sum(axis=0) == found["scores"]).all()
    ages = rows[:, 10 + FEATURES]
    expected = [(ages < 40).sum(), ((ages >= 40) & (ages < 65)).sum(), (ages >= 65).sum()]
    assert found["scores/age"].sum(axis=(1, 2)).tolist() == expected


def test_a_patient_with_records_in_several_groups_is_in_one() -> None:
    # Sixteen records, half of them of either sex: one is drawn before anything is counted.
    rows = table_of(40, held_out=40, each=16)
    rows[:, 9 + FEATURES] = np.arange(len(rows)) % 2
    found = answered("mean_squared_error", rows, epsilon=100.0, subgroups=("sex",))
    assert found["scores/sex"].sum() == found["scores"].sum() == 40
    moved = answered("mean_squared_error", rows[:-16], epsilon=100.0, subgroups=("sex",))
    assert np.abs(found["scores/sex"] - moved["scores/sex"]).sum() == 1


def test_noise_is_that_of_the_shares_of_epsilon() -> None:
    # Of nobody all that is released is noise: with four tables each has a quarter of ε.
    made = evaluation_of("mean_squared_error", epsilon=2.0, bins=40, subgroups=("sex", ("age", 65), "stage"))
    graph, weights = exported(model_of("mean_squared_error")[0], 1)
    found = score_histogram(graph, made, SCHEMA, table_of(1), weights, source(5))
    for cells in found.values():
        p = math.exp(-0.5)
        assert cells.var() == pytest.approx(2 * p / (1 - p) ** 2, rel=0.25)


def test_a_missing_value_is_a_group_of_its_own() -> None:
    made = evaluation_of("mean_squared_error", subgroups=(("age", 40),))
    columns = tuple(
        replace(column, missing=50.0) if column.name == "age" else column for column in SCHEMA.predicting(made).columns
    )
    schema = replace(SCHEMA.predicting(made), columns=columns)
    rows = table_of(30, held_out=30)
    rows[:10, 10 + FEATURES] = np.nan
    graph, weights = exported(model_of("mean_squared_error")[0], 1)
    sure = evaluation_of("mean_squared_error", subgroups=(("age", 40),), epsilon=100.0)
    found = score_histogram(graph, sure, schema, rows, weights, source())["scores/age"]
    assert found.shape[0] == 3
    assert found[2].sum() == 10


@pytest.mark.parametrize("loss", LOSSES)
def test_training_rows_never_influence_a_table(loss: str) -> None:
    rows = table_of(60, held_out=25)
    spoilt = rows.copy()
    spoilt[:35, 2:] = np.nan
    one, other = (answered(loss, table, subgroups=SUBGROUPS) for table in (rows, spoilt))
    assert all((one[name] == other[name]).all() for name in one)


def test_what_is_charged_are_its_draws() -> None:
    plain = evaluation_of("mean_squared_error", epsilon=0.9)
    assert plain.draws == (0.9,)
    assert accountant.renyi_divergence(plain, 8) == pure_divergence(0.9, 8)
    several = evaluation_of("discrete_hazards", epsilon=0.9, subgroups=SUBGROUPS)
    assert len(several.draws) == 6
    assert math.fsum(several.draws) <= 0.9
    charged = accountant.renyi_divergence(several, 8)
    assert charged == pytest.approx(6 * pure_divergence(0.15, 8))
    assert charged < pure_divergence(0.9, 8)
    assert accountant.charge_by_epsilon(several, 8).divergence_nano >= accountant.charge_for(several, 8).divergence_nano
    labels = evaluation_of("multilabel_binary_cross_entropy_with_logits", subgroups=("sex",))
    assert len(labels.draws) == 2 * len(LABELS)
    assert accountant.epsilon_of(labels, 1e-6) == 1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_mechanism_is_the_same_after_a_trip_through_json(loss: str) -> None:
    import json

    for made in (evaluation_of(loss, subgroups=SUBGROUPS), evaluation_of(loss)):
        assert mechanism_from(json.loads(json.dumps(as_dict(made)))) == made
    assert "subgroups" not in as_dict(evaluation_of(loss))


@pytest.mark.parametrize(
    ("subgroups", "words"),
    [
        (("nothing",), "'nothing' is not a column"),
        (("age",), "write its bands' cuts"),
        ((("sex", 1),), "its groups are its labels"),
        ((("age", 40, 100),), "has cuts"),
    ],
)
def test_subgroups_that_are_none_are_refused_before_rows_are_looked_at(
    subgroups: tuple[object, ...], words: str
) -> None:
    with pytest.raises(UnsupportedMechanism, match=words):
        answered("mean_squared_error", None, subgroups=subgroups)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subgroups": "sex"}, "is not a tuple of at most 8"),
        ({"subgroups": (("age", 65, 40),)}, "rising cuts"),
        ({"subgroups": ("sex", ("sex", 1.0))}, "names a column twice"),
        ({"subgroups": (("age",),)}, "rising cuts"),
        ({"loss": "cox"}, "discrete_hazards"),
        ({"loss": "mean_squared_error", "target": ("a", "b")}, "is one column"),
        ({"horizon": 5.0, "loss": "poisson"}, "is not a time"),
        ({"loss": "discrete_hazards", "target": "days"}, "names two columns and a horizon"),
        ({"loss": "multilabel_binary_cross_entropy_with_logits", "target": ("a",)}, "names 2 to 64"),
    ],
)
def test_what_is_written_wrongly_is_refused_with_what_to_write(changes: dict[str, object], words: str) -> None:
    fields = {"loss": "mean_squared_error", "epsilon": 1.0} | changes
    with pytest.raises(UnsupportedMechanism, match=words):
        mechanism_from({"kind": "evaluation", **fields})
