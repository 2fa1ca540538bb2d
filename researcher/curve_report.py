"""A learning curve as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from researcher.figures import Estimate
from researcher.report_charts import Axis, Line, line_chart, round_limits
from researcher.report_parts import section, table, text

COMBINED = "combined"


def curve_section(name: str, figures: Mapping[int, Mapping[str, Estimate]], rows: Sequence[Mapping[str, Any]]) -> str:
    """A part of a page: the figure by round, and its numbers."""
    heads = list(rows[0])
    numbers = table([head.capitalize() if head.islower() else head for head in heads],
                    [[text(row.get(head, "")) for head in heads] for row in rows])  # fmt: skip
    if not figures:
        return section("Learning curve", numbers, "Nobody scored the model in any round.")
    lines = []
    for who in _names(figures):
        points = [(float(number), found[who].value) for number, found in figures.items() if who in found]
        errors = [found[who].error for found in figures.values() if who in found]
        band = errors if who == COMBINED else ()
        lines.append(Line(who, points, band=band, dots=who == COMBINED, dashed=who != COMBINED))
    ends = [end for found in figures.values() for end in found[COMBINED].interval]
    values = [one.value for found in figures.values() for one in found.values()]
    low, high = round_limits(min(*ends, *values), max(*ends, *values))
    x = Axis("round", float(min(figures)) - 0.5, float(max(figures)) + 0.5, whole=True)
    chart = line_chart("Learning curve", lines, x, Axis(name, low, high))
    note = "Scored on held-out patients after every few rounds; the band is a 95 % interval."
    return section("Learning curve", chart + numbers, note)


def _names(figures: Mapping[int, Mapping[str, Estimate]]) -> list[str]:
    """Whose lines there are, the combined one first."""
    known = dict.fromkeys(who for found in figures.values() for who in found)
    return sorted(known, key=lambda who: who != COMBINED)
