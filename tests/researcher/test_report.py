"""A study's page: well formed, of its own, every text escaped, and true to what was released."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.errors import InvalidRequest
from policies.numbers import written
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Evaluation, Mechanism, Query, as_dict
from policies.privacy.risk import loss_of, risk_sentences
from researcher.federated import RoundRecord
from researcher.regression import RegressionResult
from researcher.report_charts import Column, column_chart
from researcher.results import EvaluationResult, Result
from researcher.scores import read_scores
from researcher.state import Release
from researcher.statistics import StatisticsResult
from researcher.survival import SurvivalResult
from tests.compose.test_report import Tree
from tests.researcher import analysis_samples
from tests.researcher.statistic_samples import DESCRIBED, EVERYTHING, asked, result
from tests.researcher.test_scores import drawn

TRAINING = DPSGD(
    loss="binary_cross_entropy", rounds=2, steps=5, sampling_rate=0.1, clipping_norm=1.0, learning_rate=0.1,
    noise_multiplier=1.5,
)  # fmt: skip
SCORING = Evaluation(loss="binary_cross_entropy", epsilon=1.0)


def release(mechanism: Mechanism, role: str, hospital: str, round_number: int = 1) -> Release:
    """A release with what a page reads of its certificate."""
    content = {
        "mechanism": as_dict(mechanism),
        "rounds": mechanism.rounds,
        "privacy": {"epsilon": accountant.epsilon_of(mechanism, 1e-5), "order": 8},
        "budget": {"epsilon": 6.0, "delta": 1e-5, "spent": 1.2345},
    }
    return Release(hospital, role, round_number, {}, json.dumps(content), "")


def statistics(queries: tuple[Query, ...] = DESCRIBED, **changes: Any) -> StatisticsResult:
    mechanism = asked(queries, **changes)
    releases = tuple(release(mechanism, "statistics", hospital) for hospital in ("general", "rural"))
    return replace(result(mechanism), releases=releases, missing={"coastal": "It denied: not now."})


def evaluation() -> EvaluationResult:
    counts = {name: drawn(np.random.default_rng(place), 300, 500) for place, name in enumerate(("general", "rural"))}
    scores = {name: read_scores(table, SCORING) for name, table in counts.items()}
    releases = tuple(release(SCORING, "evaluation", name) for name in scores)
    return EvaluationResult(scores, releases, {}, ("no", "yes"), SCORING)


def training(*, scored: bool = True) -> Result:
    rounds = [
        RoundRecord(1, ("general", "rural"), {"general": 1.0, "rural": 2.0}, {}, ""),
        RoundRecord(2, ("general", "rural"), {"general": 1.0}, {"rural": "It was too slow."}, ""),
    ]
    releases = tuple(release(TRAINING, "training", "general", number) for number in (1, 2))
    weights = {"layer.weight": np.zeros((2, 3), np.float32)}
    found = Result("flu-2026", weights, rounds, releases, ("no", "yes"))
    found.evaluation = evaluation() if scored else None
    return found


def survival(**changes: Any) -> SurvivalResult:
    found = analysis_samples.survival(**changes)
    releases = tuple(release(found.mechanism, "kaplan_meier", hospital) for hospital in found.tables)
    return replace(found, releases=releases, missing={"coastal": "It denied: not now."})


def regression(**changes: Any) -> RegressionResult:
    found = analysis_samples.regression(**changes)
    releases = tuple(release(found.mechanism, "regression", hospital) for hospital in found.sums)
    return replace(found, releases=releases, missing={"coastal": "It denied: not now."})


PAGES = {
    "described": lambda: statistics(),
    "described by groups": lambda: statistics(group_by={"ward": [], "age": [65]}),
    "asked": lambda: statistics(EVERYTHING, epsilon=5.0, where="age >= 18 and ward != 'general'"),
    "asked by groups": lambda: statistics(EVERYTHING, epsilon=5.0, group_by="ward"),
    "trained": lambda: training(scored=False),
    "trained and scored": training,
    "scored": evaluation,
    "alive": survival,
    "alive by groups": lambda: survival(by="arm", where="age >= 50"),
    "alive, hidden by noise": lambda: survival(by="arm", size=8, epsilon=0.1),
    "linear": regression,
    "logistic": lambda: regression(family="binomial", outcome="relapse", where="age >= 18"),
    "regression, hidden by noise": lambda: regression(family="binomial", outcome="relapse", size=50),
}


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = PAGES[request.param]().report(tmp_path_factory.mktemp("page") / "report.html")  # type: ignore[no-untyped-call]
    return str(path.read_text())


def test_a_page_is_well_formed_and_has_one_heading(page: str) -> None:
    tree = Tree()
    tree.feed(page)
    assert tree.open == []
    assert page.count("<h1>") == 1
    assert page.startswith('<!doctype html>\n<html lang="en">')


def test_a_page_names_no_outside_address_and_runs_no_script(page: str) -> None:
    outside = r"https?:|//[a-z]|<script|<link|<img|<iframe|src=|href=(?!.#)|@import|url\((?!#)|\son[a-z]+="
    assert not re.search(outside, page)


def test_a_page_has_costs_certificates_and_the_promise(page: str) -> None:
    assert "each signed by its hospital" in page
    assert "1.2345 of 6" in page
    assert "The guarantee covers" in page
    assert "If the whole budget is ever spent (ε = 6)" in page


def test_two_charts_of_a_page_share_no_name(page: str) -> None:
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))


def test_statistics_say_who_is_missing_whom_they_count_and_what_they_risk(tmp_path: Path) -> None:
    found = statistics(EVERYTHING, epsilon=5.0, where="age >= 18", group_by="ward")
    text = found.report(tmp_path / "report.html").read_text()
    assert "coastal is missing. It denied: not now." in text
    assert "Only records count for which age is at least 18 years." in text
    assert "Each is answered apart for 3 groups, by ward." in text
    for sentence in risk_sentences(loss_of(found.mechanism, 1e-5)):
        assert escape(sentence) in text


def test_figures_on_the_page_are_those_of_the_result(tmp_path: Path) -> None:
    found = statistics(EVERYTHING, epsilon=50.0)
    text = found.report(tmp_path / "report.html").read_text()
    frame = found.to_frame()
    cells = frame[(frame["hospital"] == "rural") & (frame["statistic"] == "crosstab/ward,died")]
    assert len(cells) == 6
    for count in cells["value"]:
        assert f"<span>{count:,.0f}</span>" in text
    assert "2026-01-" in text  # the mean of a date is a date


def test_survival_on_the_page_is_that_of_the_result(tmp_path: Path) -> None:
    found = survival(by="arm", where="age >= 50")
    text = found.report(tmp_path / "report.html").read_text()
    for hospital in ("general", "rural", "combined"):
        for curve in found.curves(hospital).values():
            assert f"<span>{curve.median}</span>" in text
    last = found.curve("new")
    assert f"{last.survival[last.told - 1]:.1%} (" in text
    assert str(found.log_rank()) in text
    assert "Only records count for which age is at least 50 years." in text
    assert "coastal is missing. It denied: not now." in text
    assert "By the survival alone (ε = 2)" in text
    assert text.count('d="M') >= 4  # two curves and their two bands


def test_coefficients_on_the_page_are_those_of_the_result(tmp_path: Path) -> None:
    found = regression(family="binomial", outcome="relapse")
    text = found.report(tmp_path / "report.html").read_text()
    for coefficient in found.coefficients("rural").values():
        assert f"<span>{written(coefficient.value, digits=3)}</span>" in text
    value, low, high = (written(end, digits=3) for end in found["age"].exponent)
    assert text.count(f"{value} ({low} to {high})") == 2  # in the chart, and in the table
    assert "Odds ratios, all hospitals together" in text
    assert "By the regression alone" in text


def test_what_noise_hides_is_said_to_be_hidden(tmp_path: Path) -> None:
    text = regression(family="binomial", outcome="relapse", size=50).report(tmp_path / "a.html").read_text()
    assert "Of combined noise hides every coefficient." in text
    assert "hidden by noise" in text
    assert "nan" not in text
    text = survival(size=8, epsilon=0.1).report(tmp_path / "b.html").read_text()
    assert "Noise hides how many patients are at risk at any time." in text


def test_every_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\u202e"
    found = statistics()
    hospitals = {evil: found.hospitals["general"], "rural": found.hospitals["rural"]}
    releases = tuple(replace(one, hospital=evil) for one in found.releases)
    text = replace(found, hospitals=hospitals, name=evil, missing={evil: evil}, releases=releases).report(
        tmp_path / "report.html"
    )
    assert "<script" not in text.read_text()
    assert "\u202e" not in text.read_text()
    trained = training()
    trained.name, trained.classes = evil, (evil, evil)
    trained.rounds[1].missing["rural"] = evil
    assert "<script" not in trained.report(tmp_path / "other.html").read_text()
    alive, fitted = survival(), regression()
    tables, sums = {evil: alive.tables["rural"]}, {evil: fitted.sums["rural"]}
    for one in (
        replace(alive, name=evil, tables=tables, missing={evil: evil}),
        replace(fitted, name=evil, sums=sums, missing={evil: evil}),
    ):
        assert "<script" not in one.report(tmp_path / "analysis.html").read_text()  # type: ignore[attr-defined]


def test_a_certificate_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    found = replace(statistics(), releases=(Release("general", "statistics", 1, {}, "no JSON", ""),))
    assert "Certificates" not in found.report(tmp_path / "report.html").read_text()


@pytest.mark.parametrize("path", [7, None, "no/such/directory/report.html", "a\0b.html"])
def test_a_page_that_cannot_be_written_says_what_to_do(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRequest, match="Name "):
        training().report(path)
    assert list(tmp_path.iterdir()) == []


def test_columns_stay_inside_their_frame_and_need_no_value() -> None:
    chart = column_chart("x", [Column("a", 0.0, 0.0, 0.0), Column("", 3.0, -1.0, 9.0)], x="<b>", y="%")
    assert 'role="img" aria-label="x"' in chart
    assert "<b>" not in chart
    column_chart("x", [Column("a", 0.0, 0.0, 0.0)], x="", y="")
