"""A team's report as a page of its own: the figures, what they could be before anybody was asked, what is promised."""

from __future__ import annotations

from pathlib import Path

from policies.numbers import counted, written
from researcher.devices.estimates import Figure
from researcher.devices.outcome import Outcome, short
from researcher.report_charts import Interval, interval_chart
from researcher.report_parts import listed, page, pair, section, table, text, write_page

SHOWN = 8  # reasons of devices that are missing


def written_page(result: Outcome, path: str | Path) -> Path:
    """Write the page; where it lies. Raises `InvalidRequest` where it cannot be written."""
    return write_page(path, content(result))


def content(result: Outcome) -> str:
    """The page."""
    question, count = result.question, len(result.devices)
    asked_of = count + len(result.missing)
    head = (
        f"<p class='badge'>{'shared noise' if result.circles else 'every device its own noise'}</p>"
        f"<h1>{text(question.name)}</h1><p class='lead'>{count:,} of {counted(asked_of, 'device')} answered, each at"
        f" ε = {written(float(question.epsilon))}. Nobody saw a number of one person without noise, and the figures"
        " below say how much noise is in them.</p>"
    )
    parts = [head]
    for figure in result.figures:
        parts += [_tiles(figure), pair(_mean(result, figure), _before(result, figure.column))]
    return page(question.name, [*parts, _promised(result), _missing(result)])


def _tiles(figure: Figure) -> str:
    deviation, low, high = figure.deviation
    tiles = (
        (f"mean {figure.column}", figure.mean, figure.mean_low, figure.mean_high),
        ("variance", figure.variance, figure.variance_low, figure.variance_high),
        ("standard deviation", deviation, low, high),
    )
    return "<div class='tiles'>" + "".join(
        f"<div class='tile'><p class='name'>{text(name)}</p><p class='figure'>{_figure(name, value, most)}</p>"
        f"<p class='note'>95 %: {short(least)} to {short(most)}</p></div>"
        for name, value, least, most in tiles
    ) + "</div>"  # fmt: skip


def _figure(name: str, value: float, most: float) -> str:
    """A number; a variance that noise hides altogether is said by how large it is at most."""
    return f"≤\N{NO-BREAK SPACE}{short(most)}" if value == 0 and not name.startswith("mean") else short(value)


def _mean(result: Outcome, figure: Figure) -> str:
    column = next(column for column in result.question.columns if column.name == figure.column)
    row = Interval(
        "mean",
        figure.mean,
        figure.mean_low,
        figure.mean_high,
        f"{short(figure.mean)} ({short(figure.mean_low)} to {short(figure.mean_high)})",
    )
    chart = interval_chart(f"Mean {figure.column} within its bounds", [row], low=column.low, high=column.high)
    ends = (
        f"The line runs from {written(float(column.low))} to {written(float(column.high))}, the bounds of the question."
    )
    return section(
        f"Mean {figure.column}",
        chart,
        f"{ends} The interval holds the mean of the devices that answered in 95 of 100 reports.",
    )


def _before(result: Outcome, column: str) -> str:
    prospect = result.prospect
    rows = [["each device's own", f"±\N{NO-BREAK SPACE}{short(prospect.own[column])}", "nobody"]]
    if prospect.shared:
        of_whom, where = ("others of a circle", "circles") if prospect.in_circles else ("others", "one sum")
        trusted = f"that no more than {prospect.colluding:,} {of_whom} work together"
        rows.append([f"shared in {where}", f"±\N{NO-BREAK SPACE}{short(prospect.shared[column])}", text(trusted)])
    return section(
        "What it could be, said beforehand",
        table(["noise", "mean", "whom a person trusts"], rows),
        f"From the declaration alone: {counted(prospect.devices, 'device')}, ε = {written(prospect.epsilon)} and the"
        " bounds. In 95 of 100 reports.",
    )


def _promised(result: Outcome) -> str:
    question = result.question
    epsilon = written(float(question.epsilon))
    if result.circles:
        prospect = result.prospect
        alone = short(prospect.epsilon_alone)
        if prospect.in_circles:
            how = f"{counted(result.circles, 'circle')} of devices: each adds a part of one noise under masks"
            whom, others = "a circle's sum", f"{prospect.colluding:,} others of a person's circle"
        else:
            how = "Each device adds a part of one noise, and shares its numbers among a committee that chance drew"
            whom, others = "the sum of all of them", f"{prospect.colluding:,} others"
        said = [
            f"{how}, and {whom} alone can be opened.",
            f"ε = {epsilon} while no more than {others} work together.",
            f"ε = {alone} at most if more do. Who did not accept that paid it, or did not answer.",
        ]
    else:
        said = [
            f"ε = {epsilon} for each person, whatever anybody knows besides and whoever works together.",
            "Each device added all of its noise before a number left it.",
        ]
    kept = (
        "Each device has a ledger of its own, and refuses when the person's budget is spent.",
        "A question that is asked again is answered with the same numbers, at no charge.",
    )
    open_ended = (
        "That a person's device takes part, and whether it has a number, is known.",
        "A device that sends wrong numbers on purpose moves the figures, and nobody sees which.",
        "Numbers beyond the bounds count as the bounds.",
        "The figures are about the devices that answered, and about nobody else.",
    )
    return (
        "<section><h2>What is promised, and what is not</h2><div class='two'>"
        f"<div><h3>Promised</h3>{listed((*said, *kept))}</div><div><h3>Not promised</h3>{listed(open_ended)}</div>"
        "</div></section>"
    )


def _missing(result: Outcome) -> str:
    if not result.missing:
        return ""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(result.missing.items()):
        by_reason.setdefault(reason, []).append(name)
    largest = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    rows = [
        [f"{len(names):,}", text(", ".join(names[:3]) + (" and others" if len(names) > 3 else "")), text(reason)]
        for reason, names in largest[:SHOWN]
    ]
    return section(
        "Devices that did not answer",
        table(["devices", "which", "what they said"], rows),
        f"{counted(len(result.missing), 'device')} of {counted(len(result.missing) + len(result.devices), 'device')}.",
    )
