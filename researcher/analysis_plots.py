"""Plots of analyses as they stand in a paper: bands, axes with units, hospitals beside the combined answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from researcher.plots import Picture, _label
from researcher.survival_curves import SurvivalCurve

_TICKS = 7


def survival_picture(
    title: str, time: str, combined: Mapping[str, SurvivalCurve], hospitals: Sequence[Mapping[str, SurvivalCurve]]
) -> Picture:
    """Curves of all hospitals together with 95 % bands, each hospital's thinner, and numbers at risk below.

    Args:
      time: what the axis shows, with its unit.
      combined: by group.
      hospitals: the same of each hospital.
    """
    figure = Picture(figsize=(7, 5.5), layout="constrained")
    both: Any = figure.subplots(2, 1, height_ratios=[5, 1])
    axes, table = both
    for number, (label, curve) in enumerate(combined.items()):
        color = f"C{number % 10}"
        _plot_curve(axes, curve, color=color, label=_label(label), band=True)
        for curves in hospitals if len(hospitals) > 1 else ():
            _plot_curve(axes, curves[label], color=color, label=None, band=False)
    grid = next(iter(combined.values())).grid
    axes.set(ylim=(0, 1.02), xlim=(grid.start, grid.until), ylabel="share without event", xlabel=_label(time))
    axes.legend(loc="best", fontsize="small")
    _at_risk_table(table, combined)
    table.set_xlim(grid.start, grid.until)
    figure.suptitle(_label(title), fontsize="medium")
    return figure


def _plot_curve(axes: Any, curve: SurvivalCurve, *, color: str, label: str | None, band: bool) -> None:
    times, share = np.r_[curve.grid.start, curve.times], np.r_[1.0, curve.survival]
    drawn = {"drawstyle": "steps-post"} if curve.grid.exact else {}
    axes.plot(times, share, color=color, label=label, linewidth=2 if band else 0.7, alpha=1 if band else 0.6, **drawn)
    if band and curve.told:
        low, high = curve.band
        step = "post" if curve.grid.exact else None
        axes.fill_between(times, np.r_[1.0, low], np.r_[1.0, high], color=color, alpha=0.2, linewidth=0, step=step)


def _at_risk_table(axes: Any, curves: Mapping[str, SurvivalCurve]) -> None:
    """Numbers at risk as released, at a few times."""
    axes.set_axis_off()
    axes.set_ylim(len(curves) + 0.5, -0.7)
    axes.text(0, 1.02, "at risk, as released", transform=axes.transAxes, fontsize="small", va="bottom")
    for row, (label, curve) in enumerate(curves.items()):
        axes.text(-0.02, row, _label(label), transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8)
        starts = np.r_[curve.grid.start, curve.grid.ends[:-1]]
        for place in np.unique(np.linspace(0, len(starts) - 1, _TICKS).astype(int)):
            number = f"{max(curve.at_risk[place], 0):,.0f}"
            axes.text(starts[place], row, number, ha="center", va="center", fontsize=8, color=f"C{row % 10}")
