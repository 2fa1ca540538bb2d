"""Pages of analyses: survival curves with their bands, and a regression's coefficients, each with what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from policies.numbers import counted, written
from policies.privacy.regression import Regression
from policies.privacy.survival import KaplanMeier
from policies.schema.design import INTERCEPT
from policies.schema.filters import condition_sentences
from policies.schema.schemas import Schema
from researcher.coefficients import Coefficient
from researcher.report import COMBINED, absent, ending, folded, header
from researcher.report_charts import Axis, Interval, Line, interval_chart, line_chart
from researcher.report_parts import page, section, table, text
from researcher.shared_noise import charged_lead
from researcher.state import Release
from researcher.survival_curves import LogRank, SurvivalCurve

Curves = Mapping[str, SurvivalCurve]
Coefficients = Mapping[str, Coefficient]

TIMES = 6  # at which a table says how many are at risk


# -- survival ----------------------------------------------------------------------------------------------------------


def survival_page(
    name: str,
    everybody: Mapping[str, Curves],
    schema: Schema,
    mechanism: KaplanMeier,
    test: LogRank | None,
    *,
    releases: Sequence[Release],
    missing: Mapping[str, str],
) -> str:
    """A study of survival: curves by hospital and group, the combined ones last."""
    asked = len(releases) if mechanism.secure_aggregation else len(everybody) - 1
    by = f", by {mechanism.by}" if mechanism.by else ""
    lead = (
        f"{counted(asked, 'hospital')} counted patients of {schema.name} by {mechanism.time} and whether"
        f" {mechanism.event} was seen{by}. {charged_lead(mechanism, releases)}"
    )
    notes = [*condition_sentences(mechanism.where, schema), *absent(missing)]
    column = schema.column(mechanism.time)
    time = f"{column.name} ({column.unit})" if column.unit else column.name
    drawn = section(
        f"Share without {mechanism.event} over time",
        survival_chart(f"Share without {mechanism.event}", everybody, time=time),
        "All hospitals together; the band is a 95 % interval that holds at all times at once, of noise and sampling. It"
        " ends where noise hides how many are at risk." + (f" {test}." if test else ""),
    )
    medians = [
        [text(who), text(label), f"{max(curve.at_risk[0], 0):,.0f} ± {curve.at_risk_errors[0]:,.0f}", str(curve.median)]
        for who, curves in everybody.items()
        for label, curve in curves.items()
    ]
    when = section(
        "When half have had it",
        folded(table(("Hospital", "Group", "Patients", "Median"), medians), len(medians)),
        "Patients as released; ± is one standard error of the noise.",
    )
    over_time = _over_time(everybody[COMBINED], time)
    return page(name, [header(name, lead, notes), drawn, over_time, when, *ending(releases)])


def survival_chart(title: str, everybody: Mapping[str, Curves], *, time: str) -> str:
    """Curves from start to end of the grid: of each group over all hospitals, or of one group each hospital's too."""
    curves = everybody[COMBINED]
    lines = [curve_line(curve, label) for label, curve in curves.items()]
    if len(curves) == 1 and len(everybody) > 2:
        (label,) = curves
        own = {who: found[label] for who, found in everybody.items() if who != COMBINED}
        lines += [curve_line(curve, who, hospital=True) for who, curve in own.items()]
    grid = next(iter(curves.values())).grid
    x, y = Axis(time, grid.start, grid.until), Axis("share without event", 0, 1)
    return line_chart(title, lines, x, y)


def curve_line(curve: SurvivalCurve, label: str, *, hospital: bool = False) -> Line:
    """A curve that begins at 1, with its band; a hospital's own dashed and without one."""
    low, high = curve.band
    points = list(zip([curve.grid.start, *curve.times.tolist()], [1.0, *curve.survival.tolist()], strict=True))
    around = [(1.0, 1.0), *zip(low.tolist(), high.tolist(), strict=True)]
    return Line(label, points, between=() if hospital else around, steps=curve.grid.exact, dashed=hospital)


def _over_time(curves: Mapping[str, SurvivalCurve], time: str) -> str:
    rows = []
    for label, curve in curves.items():
        low, high = curve.intervals
        for place in np.unique(np.linspace(0, max(curve.told - 1, 0), TIMES).astype(int)):
            if place < curve.told:
                share = f"{curve.survival[place]:.1%} ({low[place]:.1%} to {high[place]:.1%})"
                at_risk = f"{max(curve.at_risk[place], 0):,.0f} ± {curve.at_risk_errors[place]:,.0f}"
                rows.append([text(label), written(float(curve.times[place])), share, at_risk])
    if not rows:
        return section("At a few times", "<p>Noise hides how many patients are at risk at any time.</p>")
    heads = ("Group", f"Up to {time}", "Share without event (95 %)", "At risk in the last interval")
    return section("At a few times", folded(table(heads, rows), len(rows)))


# -- regression --------------------------------------------------------------------------------------------------------


def regression_page(
    name: str,
    fits: Mapping[str, Coefficients],
    schema: Schema,
    mechanism: Regression,
    *,
    hidden_in_sum: str = "",
    releases: Sequence[Release],
    missing: Mapping[str, str],
) -> str:
    """A study of a regression: coefficients by hospital, the combined ones last.

    Args:
      hidden_in_sum: of how many hospitals in the sum noise hides every coefficient, in words.
    """
    asked = len(releases) if mechanism.secure_aggregation else len(fits) - 1
    lead = (
        f"{counted(asked, 'hospital')} of {schema.name} answered a {KINDS[mechanism.family]} regression of"
        f" {mechanism.outcome} on {counted(len(mechanism.terms), 'term')}, and no record left any of them."
    )
    hidden = [who for who, fit in fits.items() if not math.isfinite(fit[INTERCEPT].value)]
    notes = [
        f"{mechanism.outcome} ~ {' + '.join(mechanism.terms)}",
        *condition_sentences(mechanism.where, schema),
        *(f"Of {who} noise hides every coefficient." for who in [*([hidden_in_sum] if hidden_in_sum else []), *hidden]),
        *(
            ["Only the hospitals together can be read: each added its own under masks."]
            if mechanism.secure_aggregation
            else []
        ),
        *absent(missing),
    ]
    rows = [_row(who, found) for who, fit in fits.items() for found in fit.values()]
    ratio = next(iter(fits[COMBINED].values())).ratio
    heads = ["Hospital", "Term", "Coefficient", "Standard error", "Of it noise", "95 % interval", "p"]
    numbers = section(
        "Coefficients",
        folded(table([*heads, *([f"{ratio.capitalize()} (95 %)"] if ratio else [])], rows), len(rows)),
        "In the units of the columns. Standard errors, intervals and p hold noise and sampling.",
    )
    terms = [found for term, found in fits[COMBINED].items() if term != INTERCEPT and math.isfinite(found.value)]
    drawn = ""
    if terms and ratio:
        chart, low, high = ratio_chart(f"{ratio}s", [(found.name, *found.exponent) for found in terms])
        note = f"One unit more, or against the first label; 95 % intervals on a scale by powers, {low} to {high}."
        drawn = section(f"{ratio.capitalize()}s, all hospitals together", chart, note)
    elif terms:
        drawn = section(
            "All hospitals together",
            _own_scales(terms),
            "Coefficients with 95 % intervals, each on a scale of its own with 0 in the middle.",
        )
    return page(name, [header(name, lead, notes), drawn, numbers, *ending(releases)])


KINDS = {"gaussian": "linear", "binomial": "logistic", "poisson": "Poisson"}


def ratio_chart(title: str, rows: Sequence[tuple[str, float, float, float]]) -> tuple[str, str, str]:
    """Ratios (name, value, low, high) on a logarithmic scale on which 1 is in the middle; and the scale's two ends."""
    reach = max(abs(math.log10(min(max(end, 1e-6), 1e6))) for _, *ends in rows for end in ends)
    reach = max(reach, 0.1)
    drawn = []
    for name, *ends in rows:
        value, low, high = (math.log10(min(max(end, 1e-6), 1e6)) for end in ends)
        said = f"{_short(ends[0])} ({_short(ends[1])} to {_short(ends[2])})"
        drawn.append(Interval(name, value, low, high, said))
    return interval_chart(title, drawn, low=-reach, high=reach), _short(10**-reach), _short(10**reach)


def _own_scales(terms: Sequence[Coefficient]) -> str:
    rows = []
    for found in terms:
        low, high = found.interval
        reach = max(abs(low), abs(high), 1e-300)
        said = f"{_short(found.value)} ({_short(low)} to {_short(high)})"
        rows.append(Interval(found.name, found.value / reach, low / reach, high / reach, said))
    return interval_chart("Coefficients", rows, low=-1, high=1)


def _row(who: str, found: Coefficient) -> list[str]:
    low, high = found.interval
    if not math.isfinite(found.value):
        return [text(who), text(found.name), "hidden by noise", "", "", "", "", *([""] if found.ratio else [])]
    value, least, most = found.exponent
    ratio = [f"{_short(value)} ({_short(least)} to {_short(most)})"] if found.ratio else []
    return [
        text(who),
        text(found.name),
        _short(found.value),
        _short(found.error),
        _short(found.noise_error),
        f"{_short(low)} to {_short(high)}",
        f"{found.p_value:.2g}" if found.p_value >= 0.0001 else "&lt; 0.0001",
        *ratio,
    ]


def _short(value: float) -> str:
    return written(value, digits=3)
