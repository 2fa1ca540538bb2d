"""The report: self-contained, escaped, readable without its optional parts, and true to its numbers."""

from __future__ import annotations

import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from compose.report import render, write_report
from policies.privacy.risk import loss_in_filter, risk_sentences
from researcher.report_charts import (
    HEIGHT,
    WIDTH,
    Axis,
    Bar,
    Interval,
    Line,
    bar_chart,
    interval_chart,
    line_chart,
    round_limits,
)
from researcher.report_style import STYLE
from tests.compose.sample_report import sample_report

VOID = {"meta", "br", "path", "rect", "use"}


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
    outside = r"https?:|//[a-z]|<script|<link|<img|<iframe|src=|href=(?!.#)|@import|url\((?!#)|\son[a-z]+="
    assert not re.search(outside, page)


def test_every_text_is_escaped() -> None:
    evil = "<script>alert('x')</script>"
    report = sample_report()
    report["title"] = evil
    report["charged_for"][0]["what"] = evil
    report["missing"] = [{"hospital": evil, "round": 2}]
    for each in report["hospitals"]:
        each["title"] = each["name"] = evil
        each["statistic"]["what"] = each["statistic"]["unit"] = evil
    report["survival"].update(title=evil, by=evil, time=evil, event=evil, test=evil)
    report["survival"]["groups"][0].update(label=evil, median=evil)
    report["regression"].update(outcome=evil, ratio=evil)
    report["regression"]["coefficients"][0]["name"] = evil
    for each in report["certificates"]:
        each["hospital"] = each["file"] = each["sha256"] = each["role"] = evil
    page = render(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_report_says_both_risks_for_what_is_spent_and_for_the_whole_budget() -> None:
    page = render(sample_report())
    for epsilon in (3.61, 6.0):
        for sentence in risk_sentences(loss_in_filter(epsilon, 1e-5, 8)):
            assert escape(sentence) in page


def test_report_without_its_optional_parts_still_reads() -> None:
    report = sample_report()
    for key in ("roc", "charged_for", "certificates", "study", "title", "survival", "regression"):
        del report[key]
    del report["auc"]["joint_by_round"]
    for each in report["hospitals"]:
        del each["statistic"], each["title"], each["size_kind"]
    page = render(report)
    assert "paediatric" in page
    assert "What is promised" in page


def test_survival_and_the_regression_are_drawn_with_their_intervals() -> None:
    page = render(sample_report())
    assert "How long patients stay away" in page
    for said in ("influenza: yes", "yes, not private", "yes 2 days (95 % from 2 to 5)", "log-rank"):
        assert said in page
    assert "0.516 (0.446 to 0.597)" in page
    assert "from 0.28 to 3.57" in page  # as far on one side of 1 as on the other
    report = sample_report()
    report["regression"]["coefficients"] = []
    assert "Noise hides every coefficient." in render(report)


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


# -- charts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [(0.801, 0.879), (36.7, 37.8), (0.0, 1.0), (5.0, 5.0), (1e-3, 1.1e-3), (-3, 900), (0.0, 0.0)]
)
def test_limits_are_around_the_values_and_not_far_away(low: float, high: float) -> None:
    first, last = round_limits(low, high)
    assert first <= low
    assert high <= last
    assert 0 < last - first <= 2.5 * max(high - low, 1e-6 * max(1.0, abs(low)))


def charts(name: str = "a") -> list[str]:
    """One of each kind, with values outside of their limits."""
    axis = Axis("x", 0, 1)
    band = Line(name, [(0, 0), (0.5, 0.4), (1, 1.2)], band=(0.5, 0.5, 0.5), dots=True)
    return [
        line_chart(name, [band, Line("b", [(0, 1), (1, -3)], dashed=True)], axis, axis, diagonal=True),
        bar_chart(name, [Bar(name, 9.0, 6.0, "over"), Bar("b", -1.0, 6.0, "under"), Bar("c", 1.0, 0.0, "none")]),
        interval_chart(name, [Interval(name, 9.0, -1.0, 12.0, "x"), Interval("b", 3.0, 2.0, 4.0, "")], low=0, high=6),
    ]


def test_more_lines_than_colours_are_named_and_not_lost() -> None:
    axis = Axis("x", 0, 1)
    lines = [Line(f"<{number}>", [(0, 0), (1, 1)]) for number in range(8)]
    assert "not drawn" not in line_chart("six", lines[:6], axis, axis)
    drawn = line_chart("eight", lines, axis, axis)
    assert "not drawn: &lt;6&gt;, &lt;7&gt;</li>" in drawn
    assert all(drawn.count(f"var(--s{number})") == 2 for number in range(6))  # a line, and its key


def test_a_line_beside_another_has_its_colour() -> None:
    axis = Axis("x", 0, 1)
    one, two = Line("a", [(0, 0), (1, 1)]), Line("b", [(0, 1), (1, 0)], dashed=True, beside=0)
    drawn = line_chart("both", [one, two], axis, axis)
    assert drawn.count("var(--s0)") == 4
    assert "var(--s1)" not in drawn


def bars(chart: str) -> list[float]:
    """Widths of the bars that are filled."""
    paths = re.findall(r'<path d="([^"]*z)[^>]*var\(--accent\)', chart)
    across = [[float(x) for x in re.findall(r"[ML] ([-\d.]+) ", path)] for path in paths]
    return [max(each) - min(each) for each in across]


def test_a_bar_is_as_long_as_its_share_of_the_limit() -> None:
    assert bars(charts()[1]) == [pytest.approx(share * WIDTH) for share in (1, 0, 0)]
    half = bar_chart("spent", [Bar("a", 1.5, 6.0, "")])
    assert bars(half) == [pytest.approx(WIDTH / 4)]


@pytest.mark.parametrize("kind", range(3))
def test_charts_stay_inside_their_frame(kind: int) -> None:
    chart = charts()[kind]
    assert (box := re.search(r'viewBox="0 0 (\d+) (\d+)"', chart))
    assert int(box[1]) == WIDTH
    assert kind or int(box[2]) == HEIGHT
    drawn = re.sub(r"<defs>.*?</defs>|<svg class=.*", "", chart)
    points = [(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", drawn)]
    points += [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([-\d.]+)" y="([-\d.]+)"', drawn)]
    assert len(points) > 4
    assert all(-0.01 <= x <= WIDTH + 0.01 and -0.01 <= y <= int(box[2]) + 0.01 for x, y in points)


@pytest.mark.parametrize("kind", range(3))
def test_every_colour_is_the_pages_so_that_light_and_dark_are_read(kind: int) -> None:
    chart = charts()[kind]
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb|black|white", re.sub(r'href="#[^"]*"| id="[^"]*"', "", chart))
    for colour in set(re.findall(r"var\(--([a-z0-9]+)\)", chart)):
        assert STYLE.count(f"--{colour}:") == 2, colour  # light, and dark


def test_two_charts_of_one_page_share_no_name() -> None:
    page = "".join([*charts("a"), *charts("b")]) + render(sample_report())
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names)) > 0
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) == set(names)


def test_a_chart_says_what_it_shows_and_keeps_its_text() -> None:
    name = "St. $x^2$ & <b>Łódź</b> 病院"
    for chart in charts(name):
        assert f'role="img" aria-label="{escape(name)}"' in chart
        assert "<b>" not in chart
        assert chart.count("$x^2$") >= 2  # its title and a label, as they are


def test_a_long_name_has_a_line_of_its_own() -> None:
    short = bar_chart("x", [Bar("General hospital", 1, 2, "ε 3.61 of 6 at δ = 1e-5")])
    long = bar_chart("x", [Bar("University Hospital of the Northern Counties", 1, 2, "ε 3.61 of 6 at δ = 1e-5")])
    heights = [set(re.findall(r'<text [^>]*\by="([-\d.]+)"', chart)) for chart in (short, long)]
    assert [len(each) for each in heights] == [1, 2]


def test_the_same_report_is_the_same_page() -> None:
    assert render(sample_report()) == render(sample_report())
