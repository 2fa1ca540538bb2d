"""Plots of analyses as they stand in a paper: bands, axes with units, hospitals beside the combined answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policies.schema.design import INTERCEPT
from researcher.coefficients import Coefficient
from researcher.plots import Picture, label_of
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
        _plot_curve(axes, curve, color=color, label=label_of(label), band=True)
        for curves in hospitals if len(hospitals) > 1 else ():
            _plot_curve(axes, curves[label], color=color, label=None, band=False)
    grid = next(iter(combined.values())).grid
    axes.set(ylim=(0, 1.02), xlim=(grid.start, grid.until), ylabel="share without event", xlabel=label_of(time))
    axes.legend(loc="best", fontsize="small")
    _at_risk_table(table, combined)
    table.set_xlim(grid.start, grid.until)
    figure.suptitle(label_of(title), fontsize="medium")
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
        axes.text(
            -0.02, row, label_of(label), transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8
        )
        starts = np.r_[curve.grid.start, curve.grid.ends[:-1]]
        for place in np.unique(np.linspace(0, len(starts) - 1, _TICKS).astype(int)):
            number = f"{max(curve.at_risk[place], 0):,.0f}"
            axes.text(starts[place], row, number, ha="center", va="center", fontsize=8, color=f"C{row % 10}")


def forest_picture(title: str, ratio: str, fits: Mapping[str, Mapping[str, Coefficient]]) -> Picture:
    """Each coefficient with its 95 % interval, a row of points by hospital; ratios on a logarithmic axis.

    Args:
      ratio: "odds ratio" or "rate ratio", or "" for coefficients in units of their own, a panel each.
      fits: coefficients by hospital, the combined one last.
    """
    names = [name for name in next(iter(fits.values())) if name != INTERCEPT]
    if ratio:
        figure = Picture(figsize=(7, 1 + 0.25 * len(names) * (len(fits) + 1)), layout="constrained")
        axes: Any = figure.subplots()
        for row, name in enumerate(names):
            _plot_intervals(axes, row, [fit[name] for fit in fits.values()], ratio=True)
        axes.set_yticks(range(len(names)), [label_of(name) for name in names])
        axes.set(xscale="log", xlabel=f"{ratio}, one unit more", ylim=(len(names) - 0.5, -0.5))
        axes.axvline(1, color="0.7", zorder=0)
        panels = [axes]
    else:
        figure = Picture(figsize=(7, 0.6 + 0.9 * len(names)), layout="constrained")
        panels = list(figure.subplots(max(len(names), 1), 1, squeeze=False)[:, 0])
        for axes, name in zip(panels, names, strict=False):
            _plot_intervals(axes, 0, [fit[name] for fit in fits.values()], ratio=False)
            axes.set_yticks([0], [label_of(name)])
            axes.set_ylim(0.5, -0.5)
            axes.axvline(0, color="0.7", zorder=0)
        panels[-1].set_xlabel("coefficient, one unit more")
    for number, hospital in enumerate(fits):
        panels[0].plot([], [], marker="o", linestyle="", color=_color(number, len(fits)), label=label_of(hospital))
    if len(fits) > 1:
        panels[0].legend(loc="best", fontsize="small")
    figure.suptitle(label_of(title), fontsize="medium")
    return figure


def _plot_intervals(axes: Any, row: int, found: Sequence[Coefficient], *, ratio: bool) -> None:
    for number, coefficient in enumerate(found):
        if not np.isfinite(coefficient.value):
            continue  # noise hides it
        value, (low, high) = coefficient.value, coefficient.interval
        if ratio:
            value, low, high = coefficient.exponent
        place = row + (number - (len(found) - 1) / 2) * 0.6 / len(found)
        color = _color(number, len(found))
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=color, capsize=2, markersize=4)


def _color(number: int, of: int) -> str:
    """Black for all hospitals together, which come last."""
    return "black" if number == of - 1 else f"C{number % 10}"
