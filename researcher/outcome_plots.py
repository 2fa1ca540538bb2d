"""Plots of an evaluation: observed against predicted, and figures by group, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from researcher.outcome_figures import COMBINED, Groups, Measured, NumberScores
from researcher.plots import Picture, label_of


def picture_of_outcome(target: str, hospitals: Mapping[str, Measured], subgroups: Groups) -> Picture:
    """Calibration of all hospitals and of each, and beside it the first figure of each group where there are any."""
    figure = Picture(figsize=(10 if subgroups else 5, 4), layout="constrained")
    axes = figure.subplots(1, 2 if subgroups else 1, squeeze=False)[0]
    _plot_calibration(axes[0], hospitals)
    if subgroups:
        _plot_groups(axes[1], subgroups)
    figure.suptitle(label_of(target))
    return figure


def _plot_calibration(axes: Any, hospitals: Mapping[str, Measured]) -> None:
    ends: list[float] = []
    for name, scores in hospitals.items():
        for what, calibration in scores.calibrations().items():
            if not calibration.predicted:
                continue
            shown = label_of(f"{name}, {what}" if what else name)
            reach = [1.96 * error for error in calibration.errors]
            wide = 2.0 if name == COMBINED else 0.8
            axes.errorbar(
                calibration.predicted, calibration.observed, yerr=reach, marker="o", capsize=2, label=shown,
                linewidth=wide, markersize=3,
            )  # fmt: skip
            ends += [*calibration.predicted, *calibration.observed]
    if ends:
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.8", zorder=0)
        axes.legend(fontsize="small")
    first = next(iter(hospitals.values()))
    unit = f", {label_of(first.unit)}" if isinstance(first, NumberScores) and first.unit else ""
    axes.set(xlabel=f"predicted{unit}", ylabel=f"observed{unit}", title="Calibration on the hold-outs")


def _plot_groups(axes: Any, subgroups: Groups) -> None:
    rows = [
        (f"{subgroup}: {group}", hospitals[COMBINED].figures())
        for subgroup, groups in subgroups.items()
        for group, hospitals in groups.items()
    ]
    chosen = next(name for name in rows[0][1] if name != "patients")
    for place, (_, figures) in enumerate(rows):
        low, high = figures[chosen].interval
        axes.plot([low, high], [place, place], color="tab:blue")
        axes.plot([figures[chosen].value], [place], "o", color="tab:blue")
    axes.set_yticks(range(len(rows)), [label_of(name) for name, _ in rows])
    axes.invert_yaxis()
    axes.set(xlabel=label_of(f"{chosen} {next(iter(rows))[1][chosen].unit}".strip()), title="By group, 95 % intervals")
