"""Plots of a result: who took part in each round, and ROC curves. A notebook shows them without being asked to."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from policies.text import visible
from researcher.figures import Estimate
from researcher.scores import Calibration, Roc

if TYPE_CHECKING:
    from researcher.federated import RoundRecord


class Picture(Figure):
    """A figure that shows itself in a notebook, whether or not matplotlib was told of one."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue()


def picture_of(
    name: str,
    rounds: Sequence[RoundRecord],
    curves: Mapping[str, Roc],
    learning: tuple[str, Mapping[int, Mapping[str, Estimate]]] | None = None,
) -> Picture:
    """Who took part in each round and, beside it, the learning curve of a figure and ROC curves where there are any."""
    panels = 1 + (learning is not None) + bool(curves)
    figure = Picture(figsize=(5 * panels, 4), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    _plot_rounds(axes[0], rounds)
    if learning is not None:
        plot_learning(axes[1], *learning)
    if curves:
        _plot_roc(axes[-1], curves)
    figure.suptitle(label_of(name))
    return figure


def picture_of_scores(
    curves: Mapping[str, Roc], calibration: Calibration | None, figures: Mapping[str, Estimate]
) -> Picture:
    """ROC curves, calibration and one figure with its 95 % interval for each hospital and all of them together."""
    panels = (1 if curves else 0) + (1 if calibration is not None else 0) + 1
    figure = Picture(figsize=(5 * panels, 4), layout="constrained")
    places = list(figure.subplots(1, panels, squeeze=False)[0])
    if curves:
        _plot_roc(places.pop(0), curves)
    if calibration is not None:
        _plot_calibration(places.pop(0), calibration)
    axes, names = places[0], list(figures)
    for row, one in enumerate(figures.values()):
        colour = "black" if names[row] == "combined" else "tab:blue"
        axes.plot(one.interval, [row, row], color=colour, linewidth=2)
        axes.plot([one.value], [row], "o", color=colour)
    axes.set_yticks(range(len(names)), [label_of(name) for name in names])
    axes.invert_yaxis()
    axes.set(xlabel="AUC" if curves else "accuracy", title="95 % intervals, as released")
    axes.grid(axis="x", color="0.9")
    return figure


def picture_of_learning(name: str, figures: Mapping[int, Mapping[str, Estimate]]) -> Picture:
    """One figure by round: combined with its 95 % interval, and each hospital's."""
    figure = Picture(figsize=(6, 4), layout="constrained")
    plot_learning(figure.subplots(), name, figures)
    return figure


def plot_learning(axes: Any, name: str, figures: Mapping[int, Mapping[str, Estimate]]) -> None:
    """Draw one figure by round on matplotlib's `axes`."""
    for who in dict.fromkeys(who for found in figures.values() for who in found):
        rounds = [number for number, found in figures.items() if who in found]
        found = [figures[number][who] for number in rounds]
        values = [one.value for one in found]
        if who == "combined":
            low, high = zip(*(one.interval for one in found), strict=True)
            axes.fill_between(rounds, low, high, color="0.85", label="95 % interval")
            axes.plot(rounds, values, "o-", color="black", linewidth=2.5, label=who)
        else:
            axes.plot(rounds, values, "o-", linewidth=1, markersize=3, label=label_of(who))
    axes.set(xlabel="round", ylabel=name, title="Learning curve on the hold-outs, as released")
    axes.set_xticks(list(figures))
    axes.grid(axis="y", color="0.9")
    if figures:
        axes.legend(fontsize="small")


def _plot_calibration(axes: Any, found: Calibration) -> None:
    reach = [1.96 * error for error in found.errors]
    axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
    axes.errorbar(found.predicted, found.observed, yerr=reach, fmt="o-", color="black", capsize=2)
    axes.set(xlabel="predicted", ylabel="observed", title="Calibration, all hospitals", xlim=(0, 1), ylim=(0, 1))


def label_of(name: str) -> str:
    """A name in a figure, where dollar signs would set mathematics."""
    return visible(name).replace("$", r"\$")


def _plot_rounds(axes: Any, rounds: Sequence[RoundRecord]) -> None:
    names = sorted({name for record in rounds for name in [*record.answered, *record.missing]})
    for row, name in enumerate(names):
        took = [record.round for record in rounds if name in record.answered]
        out = [record.round for record in rounds if name in record.missing]
        axes.scatter(took, [row] * len(took), marker="o", color="tab:blue", label="released" if row == 0 else None)
        axes.scatter(out, [row] * len(out), marker="x", color="tab:red", label="missing" if row == 0 else None)
    axes.set(xlabel="round", title="Who took part")
    axes.set_yticks(range(len(names)), [label_of(name) for name in names])
    axes.set_xticks([record.round for record in rounds])
    axes.margins(y=0.3)


def _plot_roc(axes: Any, curves: Mapping[str, Roc]) -> None:
    for name, curve in curves.items():
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            label=f"{label_of(name)}, AUC {curve.auc}",
            linewidth=2.5 if name == "combined" else 1,
        )
    axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC on the hold-outs, as released")
    axes.legend(loc="lower right", fontsize="small")
