"""The report's charts: drawn by matplotlib, written into the page as SVG that needs nothing else.

Text stays text in the page's own font. Every colour is one of the page's (`--ink`, `--s0`, ...), so that one chart
serves light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT, ROW = 380, 260, 50
"""In units of the SVG; text is 13 of them, so that it is read at the width of a telephone."""
MARGIN = {"left": 52, "right": 12, "top": 8, "bottom": 44}
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")
NAMES = ("soft", "ink", "rule", "track", "accent", *SERIES)
COLOURS = {name: f"#{f'0{number:x}' * 3}" for number, name in enumerate(NAMES, 1)}
"""What stands for a colour of the page while matplotlib draws."""
STYLE = {
    "font.size": 13,
    "text.color": COLOURS["soft"],
    "text.parse_math": False,
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["soft"],
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": COLOURS["rule"],
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.unicode_minus": False,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 1,
    "xtick.labelcolor": COLOURS["soft"],
    "ytick.labelcolor": COLOURS["soft"],
    "xtick.bottom": False,
    "ytick.left": False,
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "svg.fonttype": "none",
}
TEXT_BESIDE = 46  # characters of a row's label and figure that fit on one line


@dataclass(frozen=True)
class Line:
    """One series: points in the axes' units, drawn joined, or as steps that each begin at a point.

    `band` holds a standard error of each y, `between` the ends of an interval around it; or nothing. `beside` is the
    place of the line whose colour it shares, where it has none of its own.
    """

    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[float] = ()
    between: Sequence[tuple[float, float]] = ()
    steps: bool = False
    dots: bool = False
    dashed: bool = False
    beside: int | None = None


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; `whole` where only whole numbers mean something on it."""

    label: str
    low: float
    high: float
    whole: bool = False


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: `value` filled, out of `limit`, and what to write at its end."""

    label: str
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class Interval:
    """One row of an interval chart: a value, the interval around it, and what to write at its end."""

    label: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Column:
    """One column of a chart, with the interval around its value."""

    label: str
    value: float
    low: float
    high: float


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, *, diagonal: bool = False) -> str:
    """A line chart with its legend below, as one `<figure>`. `diagonal` draws the line of chance.

    More lines than there are colours would not be told apart: the first are drawn, and the legend names the others.
    """
    others = ", ".join(line.label for line in lines[len(SERIES) :])
    shown = [
        (line, SERIES[place if line.beside is None else line.beside]) for place, line in enumerate(lines[: len(SERIES)])
    ]
    with _drawing(title, HEIGHT) as (figure, drawn):
        box = (
            MARGIN["left"] / WIDTH,
            MARGIN["bottom"] / HEIGHT,
            1 - (MARGIN["left"] + MARGIN["right"]) / WIDTH,
            1 - (MARGIN["top"] + MARGIN["bottom"]) / HEIGHT,
        )
        axes = figure.add_axes(box, xlabel=x.label, ylabel=y.label, xlim=(x.low, x.high), ylim=(y.low, y.high))
        axes.xaxis.set_major_locator(_locator(whole=x.whole))
        axes.yaxis.set_major_locator(_locator(whole=y.whole))
        if diagonal:
            axes.plot((0, 1), (0, 1), color=COLOURS["soft"], linewidth=1, linestyle=(0, (2, 4)))
        for line, series in shown:
            _draw(axes, line, COLOURS[series], y)
    legend = "".join(
        f'<li><svg class="key{" dashed" if line.dashed else ""}" viewBox="0 0 26 6" aria-hidden="true">'
        f'<path d="M0 3H26" style="stroke: var(--{series})"/></svg>{escape(line.label)}</li>'
        for line, series in shown
    )
    legend += f"<li>not drawn: {escape(others)}</li>" if others else ""
    return f'<figure>{drawn[0]}<ul class="legend">{legend}</ul></figure>'


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars, each filled up to its value within its limit, as one `<figure>`."""
    with _rows(title, [(bar.label, bar.text) for bar in bars]) as (axes, at, drawn):
        shares = [min(max(bar.value / bar.limit, 0.0), 1.0) if bar.limit > 0 else 0.0 for bar in bars]
        axes.barh(at, 1.0, height=14, color=COLOURS["track"])
        axes.barh(at, shares, height=14, color=COLOURS["accent"])
    return f"<figure>{drawn[0]}</figure>"


def interval_chart(title: str, rows: Sequence[Interval], *, low: float, high: float) -> str:
    """Values with their intervals on one common scale from `low` to `high`, as one `<figure>`."""
    with _rows(title, [(row.label, row.text) for row in rows]) as (axes, at, drawn):
        span = max(high - low, 1e-12)
        ends = np.clip([[(end - low) / span for end in (row.low, row.value, row.high)] for row in rows], 0.0, 1.0)
        axes.hlines(at, 0, 1, color=COLOURS["track"], linewidth=2)
        axes.hlines(at, ends[:, 0], ends[:, 2], color=COLOURS["accent"], linewidth=5, alpha=0.45)
        axes.plot(ends[:, 1], at, "o", color=COLOURS["accent"], markersize=9, clip_on=False)
    return f"<figure>{drawn[0]}</figure>"


def column_chart(title: str, columns: Sequence[Column], *, x: str, y: str) -> str:
    """Upright columns with 95 % intervals, as of a histogram, as one `<figure>`; what has no label gets none."""
    with _drawing(title, HEIGHT) as (figure, drawn):
        bottom = MARGIN["bottom"] + 14
        box = (
            MARGIN["left"] / WIDTH,
            bottom / HEIGHT,
            1 - (MARGIN["left"] + MARGIN["right"]) / WIDTH,
            1 - (MARGIN["top"] + bottom) / HEIGHT,
        )
        values = np.array([column.value for column in columns])
        ends = np.array(
            [[max(column.value - column.low, 0), max(column.high - column.value, 0)] for column in columns]
        ).T
        most = round_limits(0.0, float(max((values + ends[1]).max(), 1e-9)))[1]
        axes = figure.add_axes(box, xlabel=x, ylabel=y, ylim=(0, most))
        axes.yaxis.set_major_locator(_locator())
        at = np.arange(len(columns))
        axes.bar(at, values, width=0.86, color=COLOURS["accent"], alpha=0.6)
        axes.errorbar(at, values, yerr=ends, fmt="none", ecolor=COLOURS["ink"], elinewidth=1.2)
        named = [place for place, column in enumerate(columns) if column.label]
        axes.set_xticks(named, [columns[place].label for place in named])
    return f"<figure>{drawn[0]}</figure>"


def round_limits(low: float, high: float) -> tuple[float, float]:
    """Limits around [low, high] at which an axis may begin and end."""
    middle = (low + high) / 2
    span = max(high - low, 1e-6 * max(1.0, abs(middle)))
    marks = _locator().tick_values(middle - span / 2, middle + span / 2)
    return float(marks[0]), float(marks[-1])


def _locator(*, whole: bool = False) -> MaxNLocator:
    return MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=2)


def _draw(axes: Axes, line: Line, colour: str, y: Axis) -> None:
    across, up = np.array(line.points, dtype=float).reshape(-1, 2).T
    low, high = np.array(line.between, dtype=float).reshape(-1, 2).T
    if line.band:
        error = 1.96 * np.array(line.band)
        low, high = up - error, up + error
    if len(low):
        axes.fill_between(
            across,
            np.clip(low, y.low, y.high),
            np.clip(high, y.low, y.high),
            color=colour,
            alpha=0.16,
            linewidth=0,
            clip_on=False,
            step="post" if line.steps else None,
        )
    axes.plot(
        across,
        np.clip(up, y.low, y.high),
        color=colour,
        marker="o" if line.dots else "",
        linestyle=(0, (3, 2)) if line.dashed else "-",
        drawstyle="steps-post" if line.steps else "default",
        clip_on=False,
    )


@contextmanager
def _rows(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[tuple[Axes, list[float], list[str]]]:
    """Axes over the whole width from 0 to 1, with a row for each (label, text), and where its mark's middle goes."""
    heights = [ROW if len(label) + len(text) <= TEXT_BESIDE else ROW + 18 for label, text in rows]
    total = sum(heights)
    with _drawing(title, total) as (figure, drawn):
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(total, 0))
        axes.set_axis_off()
        bottoms = list(np.cumsum(heights))
        for (label, text), height, bottom in zip(rows, heights, bottoms, strict=True):
            axes.text(0, bottom - height + 15, label, color=COLOURS["ink"])
            axes.text(1, bottom - ROW + 15, text, horizontalalignment="right")
        yield axes, [float(bottom) - ROW + 29 for bottom in bottoms], drawn


@contextmanager
def _drawing(title: str, height: float) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on; afterwards the list holds its `<svg>`."""
    drawn: list[str] = []
    with rc_context({**STYLE, "svg.hashsalt": title}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's font has it, or says so
        figure = Figure(figsize=(WIDTH / 72, height / 72), frameon=False)
        yield figure, drawn
        file = io.StringIO()
        figure.savefig(file, format="svg")
    drawn.append(_inline(file.getvalue(), title, height))


def _inline(svg: str, title: str, height: float) -> str:
    """What matplotlib wrote as a part of a page: no addresses of standards, no names that another chart also has."""
    body = svg[svg.index(">", svg.index("<svg ")) + 1 : svg.rindex("</svg>")]
    body = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL
    )
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', body))
    names = {name for pair in used for name in pair if name}
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in names else "", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(r"\s*\n\s*", " ", body)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">{body}</svg>'
