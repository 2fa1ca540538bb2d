"""Plots of statistics for a paper: 95 % intervals, hospitals and all of them together, units on the axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import TIMES, Column
from policies.schema.schemas import Schema
from researcher.figures import NORMAL_95, SHARE, Cells, Estimate, FloatArray, Quantiles, dated
from researcher.groups import Grouped
from researcher.plots import Picture, label_of

COMBINED = "combined"
MOST_PANELS = 60
_GAP = 0.05
MOST_NAMED = 12  # cells whose labels stand at the axis
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan")

Everybody = Mapping[str, Mapping[str, Any]]


def picture_of_statistics(name: str, everybody: Everybody, schema: Schema, mechanism: Statistics) -> Picture:
    """One panel for each statistic, at most `MOST_PANELS`; hospitals first, all of them together last and heavier."""
    queries = [query for query in mechanism.queries if query.key in everybody[COMBINED]][:MOST_PANELS]
    across = min(3, len(queries))
    down = math.ceil(len(queries) / across)
    figure = Picture(figsize=(5.2 * across, 3.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, query in zip(panels, queries, strict=False):
        _draw(axes, query, {who: found[query.key] for who, found in everybody.items()}, schema, mechanism.bins)
    for axes in panels[len(queries) :]:
        axes.set_axis_off()
    where = f", where {mechanism.where}" if mechanism.where else ""
    figure.suptitle(label_of(name + where))
    if len(everybody) > 1:
        marks = [Line2D([], [], marker="o", color=_colour(list(everybody), who)) for who in everybody]
        figure.legend(marks, [label_of(who) for who in everybody], loc="outside lower center", ncols=len(marks))
    return figure


def _draw(axes: Any, query: Query, found: Mapping[str, Any], schema: Schema, bins: int) -> None:
    column = schema.column(query.columns[0]) if query.columns else None
    first = found[COMBINED]
    axes.set_title(label_of(_title(query)))
    if isinstance(first, Grouped):
        if isinstance(first.parts[0], Cells):
            _stacked(axes, first)
        else:
            _dots(axes, {", ".join(group): _of_group(found, place) for place, group in enumerate(first.names)}, column)
            axes.set_ylabel(label_of(", ".join(first.columns)))
    elif isinstance(first, Cells):
        if first.counts.ndim == 2:
            _heat(axes, first)
        else:
            edges = None if column is None or query.name == "missing" else column.cells(bins)[1]
            _bars(axes, {who: part for who, part in found.items() if isinstance(part, Cells)}, column, edges)
    else:
        _dots(axes, {"": found}, column)


def _title(query: Query) -> str:
    if not query.columns:
        return "patients"
    what = {"missing": "how much has a value:", "describe": ""}.get(query.name, query.name + " of")
    return f"{what} {' and '.join(query.columns)}".strip()


def _of_group(found: Mapping[str, Any], place: int) -> dict[str, Any]:
    return {who: grouped.parts[place] for who, grouped in found.items()}


def _dots(axes: Any, rows: Mapping[str, Mapping[str, Any]], column: Column | None) -> None:
    """Values with intervals: a line for each group, and in it a mark for each hospital."""
    people = list(next(iter(rows.values())))
    offsets = np.linspace(-0.3, 0.3, len(people)) if len(people) > 1 else [0.0]
    ticks, names = [], []
    for row, (group, found) in enumerate(rows.items()):
        for who, offset in zip(people, offsets, strict=True):
            _dot(axes, row + offset, found[who], _colour(people, who))
            if not group:
                ticks.append(row + offset)
                names.append(label_of(who))
        if group:
            ticks.append(float(row))
            names.append(label_of(group))
    axes.set_yticks(ticks, names)
    axes.invert_yaxis()
    axes.set_xlabel(label_of(_unit(next(iter(next(iter(rows.values())).values())), column)))
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    if column is not None and column.kind in TIMES:
        _dates(axes, column)


def _dot(axes: Any, at: float, part: Estimate | Quantiles, colour: str) -> None:
    if isinstance(part, Estimate):
        low, high = part.interval
        axes.plot([low, high], [at, at], color=colour, linewidth=2)
        axes.plot([part.value], [at], "o", color=colour)
        return
    axes.plot([min(part.values), max(part.values)], [at, at], color=colour, linewidth=1)
    for value, (low, high) in zip(part.values, part.intervals, strict=True):
        axes.plot([low, high], [at, at], color=colour, linewidth=4, alpha=0.4)
        axes.plot([value], [at], "o", color=colour)


def _bars(axes: Any, found: Mapping[str, Cells], column: Column | None, edges: FloatArray | None) -> None:
    """Shares of records in each cell: bars of all together, marks of each hospital, with their intervals."""
    cells = found[COMBINED]
    labels = cells.labels[0]
    at = np.arange(len(labels), dtype=np.float64)
    if edges is not None and len(labels) >= len(edges):
        at[-1] += _GAP * len(labels)  # what is missing stands apart
    shares, errors = 100 * cells.shares, 100 * NORMAL_95 * cells.share_errors
    axes.bar(at, shares, width=0.9, color="0.82", yerr=[np.minimum(shares, errors), errors], ecolor="0.35", capsize=2)
    hospitals = [who for who in found if who != COMBINED]
    if len(hospitals) > 1:
        for who, offset in zip(hospitals, np.linspace(-0.25, 0.25, len(hospitals)), strict=True):
            axes.plot(at + offset, 100 * found[who].shares, ".", color=_colour(hospitals, who))
    ticks, names = _ticks(labels, column, edges)
    turned = sum(map(len, names)) > 45
    axes.set_xticks(ticks, names, rotation=35 if turned else 0, ha="right" if turned else "center")
    axes.set(ylabel="% of records", xlabel=label_of(_unit(cells, column)))
    axes.set_ylim(bottom=0)


def _ticks(labels: Sequence[str], column: Column | None, edges: FloatArray | None) -> tuple[list[float], list[str]]:
    """Where labels of cells stand: of numbers, at the edges between cells."""
    if column is None or edges is None or edges[0] < column.low:  # a cell for each label or whole number
        step = max(1, math.ceil(len(labels) / MOST_NAMED))
        return [float(place) for place in range(0, len(labels), step)], [label_of(label) for label in labels[::step]]
    step = max(1, (len(edges) - 1) // 5)
    places = list(range(0, len(edges), step))
    ticks, names = [place - 0.5 for place in places], [column.written(float(edges[place])) for place in places]
    if len(labels) >= len(edges):  # and what is missing
        ticks, names = [*ticks[:-1], len(labels) - 1 + _GAP * len(labels)], [*names[:-1], label_of(labels[-1])]
    return ticks, names


def _stacked(axes: Any, grouped: Grouped) -> None:
    """Shares of records in each cell, by group, of all hospitals together."""
    parts = [part for part in grouped.parts if isinstance(part, Cells)]
    names = [label_of(", ".join(name)) for name in grouped.names]
    labels = [" / ".join(label) for label in _products(parts[0].labels)]
    from_left = np.zeros(len(parts))
    shades = np.linspace(0.15, 0.95, len(labels))
    colours = mpl.colormaps["viridis"](shades)
    for place, label in enumerate(labels):
        widths = np.array([100 * part.shares.ravel()[place] for part in parts])
        legend = label_of(label) if len(labels) <= MOST_NAMED else None
        axes.barh(names, widths, left=from_left, color=colours[place], label=legend)
        from_left = from_left + widths
    axes.invert_yaxis()
    axes.set(xlabel="% of records, combined", ylabel=label_of(", ".join(grouped.columns)))
    if len(labels) <= MOST_NAMED:
        axes.legend(fontsize="x-small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _heat(axes: Any, cells: Cells) -> None:
    """A crosstab of all hospitals together, in records, each cell with its number where there are few."""
    counts = cells.counts
    axes.imshow(counts, cmap="Blues", aspect="auto")
    for number, (labels, axis) in enumerate(zip(cells.labels, (axes.yaxis, axes.xaxis), strict=True)):
        step = max(1, math.ceil(len(labels) / MOST_NAMED))
        axis.set_ticks(np.arange(len(labels))[::step], [label_of(label) for label in labels[::step]])
        axis.set_label_text(label_of(cells.columns[number]))
    if counts.size <= 64:
        for row, column in np.ndindex(*counts.shape):
            dark = counts[row, column] > (counts.max() + counts.min()) / 2
            text = f"{counts[row, column]:,.0f} ± {cells.noise_error:.2g}"
            axes.text(column, row, text, ha="center", va="center", fontsize="small", color="w" if dark else "0.2")


def _unit(part: Any, column: Column | None) -> str:
    if column is None:
        return "patients"
    if isinstance(part, Estimate) and part.bounds == SHARE:
        return "share"
    unit = part.unit if isinstance(part, Estimate | Quantiles) else column.unit
    return f"{column.name} ({unit})" if unit else column.name


def _dates(axes: Any, column: Column) -> None:
    ticks = [tick for tick in axes.get_xticks() if column.low <= tick <= column.high]
    axes.set_xticks(ticks, [dated(tick, column) for tick in ticks], rotation=30, ha="right")


def _colour(people: Sequence[str], who: str) -> str:
    return "black" if who == COMBINED else COLOURS[list(people).index(who) % len(COLOURS)]


def _products(labels: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [()]
    for own in labels:
        rows = [(*row, label) for row in rows for label in own]
    return rows
