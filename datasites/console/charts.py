"""Charts as SVG text, drawn here and styled by the one style sheet; each says in words what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from markupsafe import Markup, escape

from datasites.console import formats

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 20, 28
SHORTEST = timedelta(days=6)  # that the axis of days spans
STEPS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)


def budget_bar(parts: Sequence[tuple[str, float]], total: float, label: str) -> Markup:
    """A bar of a budget: `parts` (class, ε) one after the other in a frame of `total`; what is over shows as over."""
    whole = max(total, sum(max(0.0, size) for _, size in parts), 1e-9)
    bars, at = [], 0.0
    for name, size in parts:
        width = 100 * max(0.0, size) / whole
        if width > 0:
            bars.append(f'<rect class="bar-{escape(name)}" x="{at:.3f}" y="0" width="{width:.3f}" height="10"/>')
        at += width
    end = 100 * total / whole
    mark = f'<rect class="bar-end" x="{end - 0.3:.3f}" y="0" width="0.6" height="10"/>' if end < 99.9 else ""
    return Markup(
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<rect class="bar-free" x="0" y="0" width="100" height="10"/>{"".join(bars)}{mark}</svg>'
    )


def budget_label(total: float, *, spent: float, reserved: float = 0.0, asked: float = 0.0, kept: float = 0.0) -> str:
    """What a bar of a budget says in words."""
    more = [(reserved, "reserved"), (kept, "reserved for projects"), (asked, "asked for")]
    parts = [f"ε {formats.figure(spent)} spent", *(f"{formats.figure(size)} {what}" for size, what in more if size > 0)]
    return f"{', '.join(parts)}, of {formats.exact(total)}"


def belief_bar(share: float, label: str) -> Markup:
    """From 50 % (knows nothing) to 100 % (is certain)."""
    width = max(0.0, min(1.0, (share - 0.5) * 2)) * 100
    return Markup(
        '<svg class="bar thin" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">'
        '<rect class="bar-free" x="0" y="0" width="100" height="10"/>'
        f'<rect class="bar-risk" x="0" y="0" width="{width:.3f}" height="10"/></svg>'
    )


def rounds(states: Sequence[str], total: int, label: str) -> Markup:
    """One box for each of `total` rounds, in the colour of its state."""
    shown = min(total, 50)
    boxes = []
    for index in range(shown):
        state = states[index] if index < len(states) else "open"
        boxes.append(f'<rect class="round-{escape(state)}" x="{index * 14}" y="0" width="11" height="11" rx="2.5"/>')
    return Markup(
        f'<svg class="rounds" width="{shown * 14 - 3}" height="11" viewBox="0 0 {shown * 14 - 3} 11" role="img" '
        f'aria-label="{escape(label)}">{"".join(boxes)}</svg>'
    )


def spending(points: Sequence[tuple[date, float]], budget: float, label: str, *, today: date) -> Markup:
    """ε spent over time as steps under the line of the budget, up to today.

    Args:
      points: (day, ε spent by the end of it), by day.
      today: where the axis and the line end, in UTC as the days are; never before the last point.
    """
    if not points:
        return Markup("")
    last = max(today, points[-1][0])
    first = min(points[0][0] - timedelta(days=1), last - SHORTEST)
    days = (last - first).days
    top = max(budget, points[-1][1]) * 1.08

    def x(day: date) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (day - first).days / days

    def y(epsilon: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - epsilon / top)

    steps, before = [f"M{x(first):.1f} {y(0):.1f}"], 0.0
    for day, spent in points:
        steps += [f"L{x(day):.1f} {y(before):.1f}", f"L{x(day):.1f} {y(spent):.1f}"]
        before = spent
    steps.append(f"L{x(last):.1f} {y(before):.1f}")
    line = " ".join(steps)
    area = f"{line} L{x(last):.1f} {y(0):.1f} L{x(first):.1f} {y(0):.1f} Z"
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{formats.exact(tick)}</text>'
        for tick in _ticks(top)
    )
    with_year = first.year != last.year
    dates = "".join(
        f'<text class="tick" x="{x(day):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{text}</text>'
        for day, anchor, text in (
            (first, "start", formats.day_text(first, year=with_year)),
            (
                first + timedelta(days=days // 2),
                "middle",
                formats.day_text(first + timedelta(days=days // 2), year=False),
            ),
            (
                last,
                "end",
                f"today, {formats.day_text(last, year=with_year)}" if last == today else formats.day_text(last),
            ),
        )
    )
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{grid}'
        f'<path class="area" d="{area}"/><path class="line" d="{line}"/>'
        f'<circle class="now" cx="{x(last):.1f}" cy="{y(before):.1f}" r="3.5"/>'
        f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(budget):.1f}" y2="{y(budget):.1f}"/>'
        f'<text class="limit-text" x="{LEFT + 4}" y="{y(budget) - 6:.1f}" text-anchor="start">'
        f"budget ε {formats.exact(budget)}</text>{dates}</svg>"
    )


def _ticks(top: float) -> list[float]:
    step = next((size for size in STEPS if top / size <= 6), STEPS[-1])
    return [round(step * index, 3) for index in range(int(top / step) + 1)]
