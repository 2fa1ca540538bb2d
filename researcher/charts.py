"""Charts as SVG text: lines and bars, drawn by hand so that a report needs no script and no outside address.

Colours and fonts are classes that the page's style sheet sets (`series-0` to `series-5`), so one chart serves light and
dark. Every text is escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 380
LEFT, RIGHT, TOP, BOTTOM = 78, 16, 14, 56
ROW = 56


@dataclass(frozen=True)
class Line:
    """One series: points in the axes' units, drawn joined; `band` holds a standard error of each y, or nothing."""

    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[float] = ()
    dots: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, with `ticks` and their `places` after the point."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    places: int = 2


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: `value` filled, out of `limit`, and what to write at its end."""

    label: str
    value: float
    limit: float
    text: str


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, *, diagonal: bool = False) -> str:
    """A line chart with its legend below, as one `<figure>`. `diagonal` draws the line of chance."""
    parts = [*_grid(x, y)]
    if diagonal:
        parts.append(f'<path class="chance" d="M{_x(x, 0):.1f} {_y(y, 0):.1f}L{_x(x, 1):.1f} {_y(y, 1):.1f}"/>')
    for number, line in enumerate(lines):
        parts += _series(number, line, x, y)
    legend = "".join(
        f'<li><svg class="key series-{number}{" dashed" if line.dashed else ""}" viewBox="0 0 26 6" aria-hidden="true">'
        f'<path d="M0 3H26"/></svg>{escape(line.label)}</li>'
        for number, line in enumerate(lines)
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars, each filled up to its value within its limit, as one `<figure>`."""
    parts = []
    for number, bar in enumerate(bars):
        top = number * ROW
        share = min(max(bar.value / bar.limit, 0.0), 1.0) if bar.limit > 0 else 0.0
        parts.append(
            f'<text class="strong" x="0" y="{top + 16}">{escape(bar.label)}</text>'
            f'<text class="end" x="{WIDTH}" y="{top + 16}">{escape(bar.text)}</text>'
            f'<rect class="track" x="0" y="{top + 24}" width="{WIDTH}" height="16" rx="4"/>'
            f'<rect class="fill" x="0" y="{top + 24}" width="{WIDTH * share:.1f}" height="16" rx="4"/>'
        )
    height = ROW * len(bars)
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def interval_chart(title: str, rows: Sequence[tuple[str, float, float, float, str]], *, low: float, high: float) -> str:
    """Values with intervals on one common scale from `low` to `high`: (label, value, from, to, text) each."""
    span = max(high - low, 1e-12)
    parts = []

    def at(value: float) -> float:
        return WIDTH * min(max((value - low) / span, 0.0), 1.0)

    for number, (label, value, start, end, text) in enumerate(rows):
        top = number * ROW
        parts.append(
            f'<text class="strong" x="0" y="{top + 16}">{escape(label)}</text>'
            f'<text class="end" x="{WIDTH}" y="{top + 16}">{escape(text)}</text>'
            f'<path class="rail" d="M0 {top + 32}H{WIDTH}"/>'
            f'<path class="whisker" d="M{at(start):.1f} {top + 32}H{at(end):.1f}"/>'
            f'<circle class="mark" cx="{at(value):.1f}" cy="{top + 32}" r="5"/>'
        )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {ROW * len(rows)}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def ticks(low: float, high: float, *, about: int = 5) -> tuple[float, float, tuple[float, ...], int]:
    """Round limits around [low, high], the ticks between them and the places after the point that these need."""
    span = max(high - low, 1e-6)
    steps = (step * 10.0**power for power in range(-6, 7) for step in (1.0, 2.0, 5.0))
    step = next(size for size in steps if span / size <= about)
    first, last = int(low // step), -int(-high // step)
    places = next(digits for digits in range(8) if abs(step * 10**digits - round(step * 10**digits)) < 1e-9)
    return first * step, last * step, tuple(number * step for number in range(first, last + 1)), places


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - axis.low) / (axis.high - axis.low)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - axis.low) / (axis.high - axis.low)


def _grid(x: Axis, y: Axis) -> list[str]:
    floor, parts = HEIGHT - BOTTOM, []
    for tick in y.ticks:
        at = _y(y, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 8}" y="{at + 4.5:.1f}">{tick:.{y.places}f}</text>')
    for tick in x.ticks:
        parts.append(f'<text class="middle" x="{_x(x, tick):.1f}" y="{floor + 22}">{tick:.{x.places}f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="middle" x="{middle}" y="{HEIGHT - 5}">{escape(x.label)}</text>')
    up = (TOP + floor) / 2
    parts.append(f'<text class="middle" transform="translate(15 {up}) rotate(-90)">{escape(y.label)}</text>')
    return parts


def _series(number: int, line: Line, x: Axis, y: Axis) -> list[str]:
    spots = [(_x(x, a), _y(y, min(max(b, y.low), y.high))) for a, b in line.points]
    parts = []
    if line.band:
        pairs = list(zip(line.points, line.band, strict=True))
        upper = [(_x(x, a), _y(y, min(b + 1.96 * error, y.high))) for (a, b), error in pairs]
        lower = [(_x(x, a), _y(y, max(b - 1.96 * error, y.low))) for (a, b), error in reversed(pairs)]
        parts.append(f'<path class="band series-{number}" d="{_path([*upper, *lower])}Z"/>')
    dashed = " dashed" if line.dashed else ""
    parts.append(f'<path class="line series-{number}{dashed}" d="{_path(spots)}"/>')
    if line.dots:
        parts += [f'<circle class="dot series-{number}" cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in spots]
    return parts


def _path(spots: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots)
