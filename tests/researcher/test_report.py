"""The report: self-contained, escaped, readable without its optional parts, and true to its numbers."""

from __future__ import annotations

import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from policies.privacy.risk import risk_sentences
from researcher.charts import Axis as ChartAxis
from researcher.charts import Bar, Line, bar_chart, line_chart, ticks
from researcher.report import render, write_report
from tests.researcher.sample_report import sample_report

VOID = {"meta", "br", "path", "circle", "rect"}


class Tree(HTMLParser):
    """Checks that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def test_report_is_well_formed() -> None:
    tree = Tree()
    tree.feed(render(sample_report()))
    assert tree.open == []


def test_report_names_no_outside_address_and_runs_no_script() -> None:
    page = render(sample_report())
    assert not re.search(r"https?:|//[a-z]|<script|<link|<img|<iframe|src=|href=|@import|url\(|\son[a-z]+=", page)


def test_every_text_is_escaped() -> None:
    evil = "<script>alert('x')</script>"
    report = sample_report()
    report["title"] = evil
    report["charged_for"][0]["what"] = evil
    report["missing"] = [{"hospital": evil, "round": 2}]
    for each in report["hospitals"]:
        each["title"] = each["name"] = evil
        each["statistic"]["what"] = each["statistic"]["unit"] = evil
    for each in report["certificates"]:
        each["hospital"] = each["file"] = each["sha256"] = each["role"] = evil
    page = render(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_report_says_both_risks_for_what_is_spent_and_for_the_whole_budget() -> None:
    page = render(sample_report())
    for epsilon in (3.61, 6.0):
        for sentence in risk_sentences(epsilon, 1e-5):
            assert escape(sentence) in page


def test_report_without_its_optional_parts_still_reads() -> None:
    report = sample_report()
    for key in ("roc", "charged_for", "certificates", "study", "title"):
        del report[key]
    del report["auc"]["joint_by_round"]
    for each in report["hospitals"]:
        del each["statistic"], each["title"], each["size_kind"]
    page = render(report)
    assert "paediatric" in page
    assert "What is promised" in page


def test_a_joint_model_that_gained_nothing_is_not_called_better() -> None:
    report = sample_report()
    report["auc"]["joint_private"] = 0.80
    assert "is no better than what a hospital reaches alone" in render(report)


def test_written_report_reads_back_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    data, page = write_report(sample_report(), tmp_path / "new")
    assert json.loads(data.read_text()) == sample_report()
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == ["report.html", "report.json"]


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    report = sample_report()
    report["auc"]["joint_private"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_report(report, tmp_path)


@pytest.mark.parametrize(
    ("low", "high"), [(0.801, 0.879), (36.7, 37.8), (0.0, 1.0), (5.0, 5.0), (1e-3, 1.1e-3), (-3, 900)]
)
def test_ticks_cover_the_values_and_are_few(low: float, high: float) -> None:
    first, last, marks, places = ticks(low, high)
    assert first <= low
    assert high <= last + 1e-9
    assert 2 <= len(marks) <= 8
    assert len({f"{mark:.{places}f}" for mark in marks}) == len(marks)


def test_charts_stay_inside_their_frame() -> None:
    chart = bar_chart("spent", [Bar("a", 9.0, 6.0, "over"), Bar("b", -1.0, 6.0, "under"), Bar("c", 1.0, 0.0, "none")])
    widths = [float(each) for each in re.findall(r'class="fill"[^>]*width="([-\d.]+)"', chart)]
    assert widths == [560.0, 0.0, 0.0]
    axis = ChartAxis("x", 0, 1, (0, 1))
    drawn = line_chart("roc", [Line("up", [(0, 0), (1, 1.2)], band=(0.5, 0.5))], axis, axis)
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", drawn)]
    assert all(0 <= each <= 380 for each in heights)
