"""The chart of spending ends today, at today's value, and every chart says in words what it shows."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from datasites.console import charts

START = date(2026, 3, 2)
RIGHT_END = charts.WIDTH - charts.RIGHT


def line(chart: str) -> list[tuple[float, float]]:
    """The points of the step line."""
    path = re.search(r'class="line" d="([^"]+)"', chart)
    assert path is not None
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path[1])]


def epsilon_at(y: float, budget: float) -> float:
    """What a height of the chart stands for: its frame ends a little above the budget."""
    share = 1 - (y - charts.TOP) / (charts.HEIGHT - charts.TOP - charts.BOTTOM)
    return share * budget * 1.08


@pytest.mark.parametrize("days_since", [0, 1, 90, 800])
def test_the_line_goes_on_to_today_at_what_is_spent_today(days_since: int) -> None:
    today = START + timedelta(days=3 + days_since)
    points = [(START, 1.0), (START + timedelta(days=3), 2.5)]
    chart = charts.spending(points, 6.0, "Spent", today=today)
    x, y = line(chart)[-1]
    assert x == pytest.approx(RIGHT_END, abs=0.1)
    assert epsilon_at(y, 6.0) == pytest.approx(2.5, abs=0.02)
    assert f"today, {today:%-d %b}" in chart


def test_the_axis_never_runs_beyond_today() -> None:
    chart = charts.spending([(START, 1.0)], 6.0, "Spent", today=START)
    assert "today, 2 Mar" in chart
    step = [x for x, _ in line(chart)]
    assert step[-1] == step[-2] == pytest.approx(RIGHT_END, abs=0.1)  # the step itself is today's


def test_an_axis_over_two_years_names_them() -> None:
    chart = charts.spending([(date(2025, 12, 30), 1.0)], 6.0, "Spent", today=date(2026, 2, 1))
    assert "29 Dec 2025" in chart
    assert "today, 1 Feb 2026" in chart


def test_nothing_spent_is_no_chart() -> None:
    assert charts.spending([], 6.0, "Spent", today=START) == ""


@pytest.mark.parametrize("budget", [0.02, 0.5, 6.0, 100.0, 5_000.0])
def test_ticks_have_no_exponent(budget: float) -> None:
    chart = charts.spending([(START, budget / 2)], budget, "Spent", today=START)
    ticks = re.findall(r'text-anchor="end">([^<]+)</text>', chart)
    assert len(ticks) > 2
    assert all(re.fullmatch(r"[\d,.]+|today, 2 Mar", tick) for tick in ticks)


def test_a_bar_says_what_it_shows() -> None:
    label = charts.budget_label(6.0, spent=1.234, reserved=0.5)
    assert label == "ε 1.24 spent, 0.50 reserved, of 6"
    assert charts.budget_label(6.0, spent=0.0) == "ε 0 spent, of 6"
    assert 'role="img"' in charts.budget_bar((("spent", 1.0),), 6.0, label)
    assert f'aria-label="{label}"' in charts.budget_bar((("spent", 1.0),), 6.0, label)


def test_a_label_is_text() -> None:
    assert "<b>" not in charts.belief_bar(0.7, "<b>")
    assert "<b>" not in charts.rounds(["released"], 3, '"><b>')
