"""A study of survival: what it asks, and what its result says per hospital and combined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.errors import InvalidRequest, UnsupportedMechanism, WeightsRefused, WrongStatus
from policies.privacy.survival import KaplanMeier
from policies.schema.survival_cells import TENSOR
from researcher.network import Network
from researcher.survival import SurvivalResult, SurvivalStudy, table_of

DECLARED = KaplanMeier(time="age", event="influenza", epsilon=1.0, bins=11)


@pytest.fixture
def study(network: Network, tmp_path: Path) -> SurvivalStudy:
    return SurvivalStudy(network.dataset("flu"), DECLARED, name="alive", state=tmp_path, progress=False)


@pytest.fixture
def result(study: SurvivalStudy) -> SurvivalResult:
    rng = np.random.default_rng(0)
    tables = {name: rng.poisson(30, (1, 23)).astype(float) for name in ("general", "rural")}
    return SurvivalResult("alive", DECLARED, study.cohort.schema, tables, (), {"paediatric": "denied."})


def test_the_cohort_makes_the_study_and_the_same_question_is_the_same_study(network: Network) -> None:
    flu = network.dataset("flu")
    one, two = (flu.kaplan_meier("age", "influenza", epsilon=epsilon) for epsilon in (1.0, 2.0))
    assert one.name.startswith("flu-kaplan-meier-")
    assert one.name == flu.kaplan_meier("age", "influenza", epsilon=1.0).name != two.name
    assert "kaplan_meier(records, round" in one.sources["kaplan_meier"]
    with pytest.raises(UnsupportedMechanism, match="event='temperature' is real"):
        flu.kaplan_meier("age", "temperature", epsilon=1.0)


def test_it_is_submitted_before_it_runs_and_its_rounds_are_those_asked_for(study: SurvivalStudy) -> None:
    with pytest.raises(WrongStatus, match="was not submitted yet"):
        study.run()
    with pytest.raises(InvalidRequest, match="round=2 is not from 1 to 1"):
        study.run(round=2)


def test_the_combined_curve_is_that_of_all_tables_together(result: SurvivalResult) -> None:
    combined, general = result.curve(), result.curve(hospital="general")
    assert combined.at_risk[0] == sum(table.sum() for table in result.tables.values())
    assert combined.noise_error == pytest.approx(np.sqrt(2) * general.noise_error)
    assert combined.unit == "years"
    assert result.at(50.0).low < result.at(50.0).value < result.at(50.0).high
    assert result.median().unit == "years"
    with pytest.raises(InvalidRequest, match="No hospital 'urban' answered"):
        result.curves("urban")
    with pytest.raises(InvalidRequest, match="There is no group 'b'"):
        result.curve("b")


def test_it_says_what_it_found_and_who_is_missing(result: SurvivalResult) -> None:
    said = str(result)
    assert "combined  all patients" in said
    assert "paediatric: missing. denied." in said
    assert "ε=1 was charged at each hospital." in said
    assert result.log_rank() is None  # of one group
    frame = result.to_frame()
    assert set(frame["hospital"]) == {"general", "rural", "combined"}
    assert ((frame["band_low"] <= frame["survival"]) & (frame["survival"] <= frame["band_high"])).all()


def test_it_is_drawn_with_its_band_its_unit_and_numbers_at_risk(result: SurvivalResult) -> None:
    figure = result.plot()
    axes, table = figure.axes
    assert axes.get_xlabel() == "age (years)"
    assert axes.get_ylabel() == "share without event"
    assert len(axes.collections) == 1  # the band
    assert len(axes.lines) == 3  # combined, and each hospital's
    assert any(text.get_text() == "at risk, as released" for text in table.texts)
    assert result._repr_png_().startswith(b"\x89PNG")


def test_a_release_of_another_shape_is_refused(study: SurvivalStudy) -> None:
    for wrong in ({}, {TENSOR: np.zeros((2, 23))}, {TENSOR: np.full((1, 23), np.nan)}):
        with pytest.raises(WeightsRefused, match="wanted"):
            table_of(wrong, study)
