"""Of the demonstration's report, the survival curves and the regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from researcher.report_analyses import ratio_chart
from researcher.report_charts import Axis, Line, line_chart
from researcher.report_parts import section


def survival_section(report: Mapping[str, Any]) -> str:
    """Curves by group with their bands, beside the true ones where patients are synthetic; "" where none were asked."""
    survival = report.get("survival")
    if not survival:
        return ""
    lines = []
    for group in survival["groups"]:
        between = list(zip(group["low"], group["high"], strict=True))
        points = list(zip(group["times"], group["share"], strict=True))
        label = f"{survival['by']}: {group['label']}"
        lines.append(Line(label, points, between=between, steps=survival["exact"]))
    for place, group in enumerate(survival["groups"]):
        if group["true"]:
            points = list(zip(group["times"], group["true"], strict=True))
            label = f"{group['label']}, not private"
            lines.append(Line(label, points, steps=survival["exact"], dashed=True, beside=place))
    x, y = Axis(survival["time"], 0, survival["until"]), Axis(f"share not {survival['event']}", 0, 1)
    medians = "; ".join(f"{group['label']} {group['median']}" for group in survival["groups"])
    return section(
        survival["title"],
        line_chart("Kaplan-Meier curves", lines, x, y),
        "From one noisy table of time and event, all hospitals together; bands hold at all times at once, 95 %."
        f" Medians: {medians}. {survival['test'] or ''}",
    )


def regression_section(report: Mapping[str, Any]) -> str:
    """Ratios with their intervals; "" where no regression was asked."""
    regression = report.get("regression")
    if not regression:
        return ""
    title = f"What goes with {regression['outcome']}"
    rows = [(row["name"], row["value"], row["low"], row["high"]) for row in regression["coefficients"]]
    if not rows:
        return section(title, "<p>Noise hides every coefficient.</p>")
    chart, low, high = ratio_chart(title, rows)
    return section(
        title,
        chart,
        f"{regression['ratio'].capitalize()}s of a logistic regression on all of these, with 95 % intervals of noise"
        f" and sampling, on a scale by powers from {low} to {high}. 1, in the middle, is no relation.",
    )
