"""The demonstration's two analyses without a model: a survival curve and a regression, from request to report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compose.baseline import Floats
from compose.demonstration import Demonstration
from researcher.cohort import Cohort
from researcher.regression import RegressionResult, RegressionStudy
from researcher.survival import SurvivalResult, SurvivalStudy


def survival_study(shown: Demonstration, cohort: Cohort, root: Path) -> SurvivalStudy | None:
    """The study of a curve, where the demonstration asks for one."""
    if shown.survival is None:
        return None
    name = f"{shown.name}-survival"
    purpose = f"{shown.survival_title}."
    return SurvivalStudy(cohort, shown.survival, name=name, purpose=purpose, state=root / name, progress=False)


def regression_study(shown: Demonstration, cohort: Cohort, root: Path) -> RegressionStudy | None:
    """The study of a regression, where the demonstration asks for one."""
    if shown.regression is None:
        return None
    name = f"{shown.name}-regression"
    return RegressionStudy(
        cohort, shown.regression, name=name, purpose=shown.purpose, state=root / name, progress=False
    )


def survival_report(result: SurvivalResult, title: str, truth: Mapping[str, Floats]) -> dict[str, Any]:
    """A curve and its band by group, as plain values; `truth` is the exact share at each time of the grid."""
    column, test = result.schema.column(result.mechanism.time), result.log_rank()
    groups = []
    for label, curve in result.curves().items():
        low, high = curve.band
        groups.append(
            {
                "label": label,
                "times": [curve.grid.start, *curve.times.tolist()],
                "share": [1.0, *curve.survival.tolist()],
                "low": [1.0, *low.tolist()],
                "high": [1.0, *high.tolist()],
                "true": [1.0, *np.asarray(truth[label])[: curve.told].tolist()] if label in truth else None,
                "median": str(curve.median),
            }
        )
    return {
        "title": title,
        "event": result.mechanism.event,
        "by": result.mechanism.by,
        "time": f"{column.name} ({column.unit})" if column.unit else column.name,
        "until": curve.grid.until,
        "exact": curve.grid.exact,
        "test": str(test) if test else None,
        "groups": groups,
    }


def regression_report(result: RegressionResult) -> dict[str, Any]:
    """Each combined coefficient as a ratio with its 95 % interval, as plain values; none where noise hides them."""
    coefficients = result.coefficients() if result.fit().told else {}
    return {
        "outcome": result.mechanism.outcome,
        "terms": list(result.mechanism.terms),
        "ratio": next((found.ratio for found in coefficients.values()), ""),
        "coefficients": [
            dict(zip(("name", "value", "low", "high"), (name, *found.exponent), strict=True))
            for name, found in coefficients.items()
            if name != "intercept"
        ],
    }


def kaplan_meier(times: Floats, events: Floats, moments: Iterable[float]) -> Floats:
    """The share without event up to each moment, of all records and without privacy."""
    share, shares = 1.0, []
    for moment in moments:
        share *= 1 - ((times == moment) & (events > 0)).sum() / max((times >= moment).sum(), 1)
        shares.append(share)
    return np.asarray(shares)
