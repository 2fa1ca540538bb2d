"""A study as one page: what was asked, of whom, what came back with its errors, what it cost, and who signed it.

Everything on it is made of releases and public facts, so a page costs no budget and may be sent to anybody.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from policies.errors import InvalidRequest
from policies.numbers import counted, written
from policies.privacy.mechanisms import Query, Statistics, mechanism_from
from policies.privacy.risk import loss_in_filter, loss_of, risk_sentences, rounded_up
from policies.schema import columns as schema_columns
from policies.schema.columns import TIMES
from policies.schema.questions import scope_sentences
from policies.schema.schemas import Schema
from researcher.described import RANKS, Described, described
from researcher.figures import NORMAL_95, SHARE, Cells, Estimate, Quantiles, dated
from researcher.groups import Grouped
from researcher.report_charts import (
    Axis,
    Column,
    Interval,
    Line,
    column_chart,
    interval_chart,
    line_chart,
    round_limits,
)
from researcher.report_parts import page, pair, promise, section, table, text
from researcher.shared_noise import charged_lead
from researcher.state import Release
from researcher.traffic import bytes_of

if TYPE_CHECKING:
    from researcher.scores import Calibration, Roc

COMBINED = "combined"
MOST_ROWS = 400  # of one table on the page
HIDDEN_FROM = 24  # rows, beyond which a table is folded away
FOR = {"dp_sgd": "training", "kaplan_meier": "survival"}
"""What a mechanism is called on the page, where that is not its own name."""

Everybody = Mapping[str, Mapping[str, Any]]


def statistics_page(
    name: str,
    everybody: Everybody,
    schema: Schema,
    mechanism: Statistics,
    *,
    releases: Sequence[Release],
    missing: Mapping[str, str],
) -> str:
    """A study of statistics."""
    hospitals = [who for who in everybody if who != COMBINED]
    lead = (
        f"{counted(len(hospitals), 'hospital')} answered {counted(len(mechanism.queries), 'statistic')} of"
        f" {schema.name}. {charged_lead(mechanism, releases)}"
    )
    notes = [*scope_sentences(mechanism, schema), *absent(missing)]
    answers = [
        _answer(query, {who: found[query.key] for who, found in everybody.items()}, schema, mechanism)
        for query in mechanism.queries
        if query.key in everybody[COMBINED]
    ]
    overview = _overview(everybody, schema, mechanism)
    paired = [pair(*answers[place : place + 2]) for place in range(0, len(answers), 2)]
    return page(name, [header(name, lead, notes), overview, *paired, *ending(releases)])


def training_page(
    name: str,
    *,
    rounds: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    parameters: int,
    scores: Sequence[str],
    releases: Sequence[Release],
    ended: str = "",
) -> str:
    """A study of a model.

    Args:
      rounds: `RoundRecord.as_dict` of each.
      scores: sections of an evaluation, as `score_sections` makes them.
      ended: why it ended before its last round.
    """
    names = sorted({who for record in rounds for who in [*record["answered"], *record["missing"]]})
    lead = (
        f"{counted(len(names), 'hospital')} trained one model of {parameters:,} numbers together, in"
        f" {counted(len(rounds), 'round')}, and no record left any of them. It tells apart: {', '.join(classes)}."
    )
    rows = []
    for who in names:
        took = sum(who in record["answered"] for record in rounds)
        why = "; ".join(
            f"round {record['round']}: {record['missing'][who]}" for record in rounds if who in record["missing"]
        )
        carried = [
            text(bytes_of(who, [record.get(name, {}) for record in rounds]))
            for name in ("sent_bytes", "received_bytes")
        ]
        rows.append((text(who), f"{took} of {len(rounds)}", *carried, text(why or "none")))
    took_part = section("Who took part", table(("Hospital", "Rounds", "Sent", "Received", "Left out"), rows))
    return page(name, [header(name, lead, [ended] if ended else []), took_part, *scores, *ending(releases)])


def evaluation_page(
    name: str, sections: Sequence[str], *, releases: Sequence[Release], missing: Mapping[str, str]
) -> str:
    """A model's scores by themselves."""
    lead = f"{counted(len(releases), 'hospital')} scored one model on patients who were held out of its training."
    return page(name, [header(name, lead, absent(missing)), *sections, *ending(releases)])


def score_sections(
    rows: Sequence[Mapping[str, Any]],
    auc: Mapping[str, Estimate],
    roc: Mapping[str, Roc],
    calibration: Calibration | None,
) -> list[str]:
    """How well a model separates: a table; of two classes AUC with intervals, ROC curves and calibration."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    sections = [
        section(
            "How well it does on held-out patients",
            table([head.capitalize() if head.islower() else head for head in heads],
                  [[text(row.get(head, "")) for head in heads] for row in rows]),
            "± is one standard error, of the noise that protects patients and of the chance of who was held out.",
        )
    ]  # fmt: skip
    if not auc:
        return sections
    sections.append(pair(_auc(auc), _roc(roc)))
    if calibration is not None and calibration.predicted:
        sections.append(pair(_calibration(calibration)))
    return sections


def header(name: str, lead: str, notes: Sequence[str]) -> str:
    """The page's title, what was asked of whom, and what to know of it."""
    said = "".join(f"<p class='note'>{text(note)}</p>" for note in notes)
    return f"<header><h1>{text(name)}</h1><p class='lead'>{text(lead)}</p>{said}</header>"


def absent(missing: Mapping[str, str]) -> list[str]:
    """A sentence for each hospital that did not answer."""
    return [f"{who} is missing. {reason}" for who, reason in sorted(missing.items())]


# -- statistics --------------------------------------------------------------------------------------------------------


def _overview(everybody: Everybody, schema: Schema, mechanism: Statistics) -> str:
    """What `describe` asked, as one table: a row for each column, by groups one for each group."""
    rows = []
    for query in mechanism.queries:
        if query.name == "describe" and query.key in everybody[COMBINED]:
            for group, cells in _parts(everybody[COMBINED][query.key]):
                found = described(cells, schema.column(query.columns[0]), mechanism.bins)
                rows.append([*([text(group)] if mechanism.group_by else []), *_overview_row(found)])
    if not rows:
        return ""
    quartiles = [f"{rank:.0%} (95 %)" for rank in RANKS]
    heads = [*(["Group"] if mechanism.group_by else []), "Column", "Records", "Missing", "Mean", "SD", *quartiles]
    note = "All hospitals together. ± is one standard error, of noise, sampling and the width of a cell."
    return section("Every column", folded(table([*heads, "Most common"], rows), len(rows)), note)


def _overview_row(found: Described) -> list[str]:
    def natural(value: float) -> str:
        return dated(value, found.column) if found.column.kind in TIMES else written(value, digits=4)

    mean = "" if found.mean is None else f"{natural(found.mean.value)} ± {written(found.mean.error, digits=2)}"
    mean += f" {found.column.counted_in}" if mean and found.column.kind in TIMES else ""
    quantiles = [f"{natural(value)} ({natural(low)} to {natural(high)})" for value, low, high in found.quantiles]
    return [
        text(found.title),
        f"{found.records.value:,.0f} ± {found.records.error:,.0f}",
        "none allowed" if found.missing is None else f"{found.missing.value:,.0f} ± {found.missing.error:,.0f}",
        text(mean),
        "" if found.deviation is None else written(found.deviation, digits=3),
        *(quantiles or [""] * len(RANKS)),
        text("; ".join(f"{label} {share.value:.1%} ± {share.error:.1%}" for label, share in found.common)),
    ]


def _answer(query: Query, found: Mapping[str, Any], schema: Schema, mechanism: Statistics) -> str:
    title = _title(query)
    parts = {who: _parts(statistic) for who, statistic in found.items()}
    first = parts[COMBINED][0][1]
    if isinstance(first, Cells):
        return _cells(title, query, parts, schema, mechanism)
    return _numbers(title, query, parts, schema)


def _title(query: Query) -> str:
    what = {"count": "Patients", "missing": "How much has a value", "describe": "Distribution"}
    head = what.get(query.name, query.name.capitalize())
    return f"{head}: {', '.join(query.columns)}" if query.columns else head


def _parts(statistic: Any) -> list[tuple[str, Any]]:
    if isinstance(statistic, Grouped):
        return [(", ".join(name), part) for name, part in statistic]
    return [("", statistic)]


def _numbers(title: str, query: Query, parts: Mapping[str, list[tuple[str, Any]]], schema: Schema) -> str:
    """Estimates or quantiles: a chart of the combined ones where there are groups, else of every hospital; a table."""
    column = schema.column(query.columns[0]) if query.columns else None
    grouped = len(parts[COMBINED]) > 1
    rows, table_rows = [], []
    for who, own in parts.items():
        for group, part in own:
            for label, value, low, high, unit, clock in _figures(part):
                shown = [dated(number, clock) if clock else written(number, digits=4) for number in (value, low, high)]
                said = f"{shown[0]}{f' {unit}' if unit else ''} ({shown[1]} to {shown[2]})"
                name = ", ".join(filter(None, ([group] if grouped else [who]) + [label]))
                if who == COMBINED or not grouped:
                    rows.append(Interval(name, value, low, high, said))
                table_rows.append([text(who), text(", ".join(filter(None, (group, label)))), text(said)])
    summed = query.name in ("count", "sum") and not grouped
    charted = [row for row in rows if row.label != COMBINED] if summed else rows
    low, high = round_limits(min(row.low for row in charted), max(row.high for row in charted))
    chart = interval_chart(title, charted[:40], low=low, high=high) if len(charted) <= 40 else ""
    numbers = table(("Hospital", "Of", "Value (95 % interval)"), table_rows[:MOST_ROWS])
    together = table_rows[-1][-1] if summed else ""
    scale = "" if column is not None and column.kind in TIMES else f" The scale is {low:g} to {high:g}."
    return section(
        title,
        chart + folded(numbers, HIDDEN_FROM + 1),
        f"Value and 95 % interval.{scale}{together and f' All together {together}.'}",
    )


def _figures(part: Estimate | Quantiles) -> list[tuple[str, float, float, float, str, schema_columns.Column | None]]:
    if isinstance(part, Estimate):
        return [("", part.value, *part.interval, part.unit if part.bounds != SHARE else "", part.clock)]
    return [
        (f"{rank:.0%}", value, low, high, part.unit, part.clock)
        for rank, value, (low, high) in zip(part.ranks, part.values, part.intervals, strict=True)
    ]


def _cells(
    title: str, query: Query, parts: Mapping[str, list[tuple[str, Any]]], schema: Schema, mechanism: Statistics
) -> str:
    groups = parts[COMBINED]
    rows = []
    for group, cells in groups:
        shares, errors = cells.shares.ravel(), cells.share_errors.ravel()
        for place, labels in enumerate(itertools.product(*cells.labels)):
            by_hospital = [
                f"{dict(own)[group].counts.ravel()[place]:,.0f}" for who, own in parts.items() if who != COMBINED
            ]
            rows.append(
                [
                    text(", ".join(filter(None, (group, *labels)))),
                    *by_hospital,
                    f"{cells.counts.ravel()[place]:,.0f}",
                    f"{shares[place]:.1%} ± {errors[place]:.1%}",
                ]
            )
    noise = groups[0][1].noise_error
    heads = ["Cell", *(who for who in parts if who != COMBINED), "Together", "Share"]
    numbers = folded(table(heads, rows[:MOST_ROWS]), len(rows))
    chart = ""
    if len(groups) == 1 and groups[0][1].counts.ndim == 1:
        chart = _columns(title, query, groups[0][1], schema, mechanism)
    cut = f" The first {MOST_ROWS} of {len(rows):,} cells." if len(rows) > MOST_ROWS else ""
    return section(title, chart + numbers, f"Noise of ± {written(noise, digits=2)} in each count of all together.{cut}")


def _columns(title: str, query: Query, cells: Cells, schema: Schema, mechanism: Statistics) -> str:
    column = schema.column(query.columns[0])
    labels, (own, edges) = list(cells.labels[0]), column.cells(mechanism.bins)
    if edges is not None and query.name != "missing" and edges[0] >= column.low:  # a cell is named by where it begins
        dates = column.kind in TIMES
        begins = [column.written(float(edge)) if dates else written(float(edge), digits=3) for edge in edges[:-1]]
        labels = begins + labels[len(own) :]
    labels = _some(labels)
    shares, reach = 100 * cells.shares, 100 * NORMAL_95 * cells.share_errors
    drawn = [
        Column(label, float(share), float(max(share - error, 0)), float(share + error))
        for label, share, error in zip(labels, shares, reach, strict=True)
    ]
    unit = f"{column.name} ({column.unit})" if column.unit else column.name
    return column_chart(title, drawn, x=unit, y="% of records")


def _some(labels: list[str]) -> list[str]:
    """As many labels as find room under columns, what is missing always among them; the others empty."""
    named = labels[-1][:1].isalpha() and not labels[0][:1].isalpha()  # what is missing, after numbers or dates
    room = max(2, 40 // max(len(label) for label in labels))
    step = -(-len(labels) // room)
    kept = {place: labels[place] for place in range(0, len(labels) - (max(step, 2) if named else 0), step)}
    if named:
        kept[len(labels) - 1] = labels[-1]
    return [kept.get(place, "") for place in range(len(labels))]


def folded(body: str, rows: int) -> str:
    """A long table, folded away."""
    return body if rows <= HIDDEN_FROM else f"<details><summary>The numbers</summary>{body}</details>"


# -- scores ------------------------------------------------------------------------------------------------------------


def _auc(auc: Mapping[str, Estimate]) -> str:
    rows = [
        Interval(who, one.value, *one.interval, f"{one.value:.3f} ({one.interval[0]:.3f} to {one.interval[1]:.3f})")
        for who, one in auc.items()
    ]
    low, high = round_limits(min(row.low for row in rows), max(row.high for row in rows))
    note = f"Value and 95 % interval, from {low:g} to {high:g} on the scale. 0.5 is a coin, 1 is perfect."
    return section("Area under the ROC curve", interval_chart("AUC", rows, low=low, high=high), note)


def _roc(curves: Mapping[str, Roc]) -> str:
    lines = []
    for who, curve in sorted(curves.items(), key=lambda item: item[0] != COMBINED):
        points = list(zip(curve.false_positive_rate, curve.true_positive_rate, strict=True))
        lines.append(
            Line(who, points, band=curve.true_positive_error if who == COMBINED else (), dashed=who != COMBINED)
        )
    x, y = Axis("false positive rate", 0, 1), Axis("true positive rate", 0, 1)
    note = "Made of noisy histograms of scores; the band is a 95 % interval."
    return section("How well it separates", line_chart("ROC curves", lines, x, y, diagonal=True), note)


def _calibration(found: Calibration) -> str:
    points = list(zip(found.predicted, found.observed, strict=True))
    line = Line("all hospitals together (95 % band)", points, band=found.errors, dots=True)
    chart = line_chart("Calibration", [line], Axis("predicted", 0, 1), Axis("observed", 0, 1), diagonal=True)
    return section("Whether what it predicts comes true", chart, "On the dotted line, it does as often as predicted.")


# -- what it cost, and who says so -------------------------------------------------------------------------------------


def ending(releases: Sequence[Release]) -> list[str]:
    """Costs, certificates and the promise, of releases that carry certificates."""
    signed = [(release, _content(release)) for release in releases]
    known = [(release, content) for release, content in signed if content]
    if not known:
        return []
    rows = [
        (
            text(release.hospital),
            text(FOR.get(release.role, release.role)),
            f"{release.round} of {content['rounds']}",
            rounded_up(content["privacy"]["epsilon"]),
            _spent(content),
            f"<code class='digest'>{hashlib.sha256(release.certificate.encode()).hexdigest()}</code>",
        )
        for release, content in known
    ]
    heads = ("Hospital", "For", "Round", "ε of all rounds", "ε spent of the budget", "SHA-256 of the certificate")
    certificates = section(
        "Certificates",
        f"<details><summary>{counted(len(rows), 'release')}, each signed by its hospital</summary>"
        f"{table(heads, rows[:MOST_ROWS])}</details>",
        "Check one offline, with nothing of the hospital's: researcher verify FILE.",
    )
    return [certificates, _promise([content for _, content in known])]


def _content(release: Release) -> dict[str, Any]:
    try:
        found = json.loads(release.certificate)
        mechanism_from(found["mechanism"])
        return found if isinstance(found, dict) else {}
    except (ValueError, LookupError, TypeError, InvalidRequest):
        return {}


def _spent(content: Mapping[str, Any]) -> str:
    spent, budget = content["budget"]["spent"], written(content["budget"]["epsilon"])
    return f"of {budget}" if spent is None else f"{rounded_up(spent)} of {budget}"


def _promise(contents: Sequence[Mapping[str, Any]]) -> str:
    largest: dict[str, Any] = {}
    for content in contents:
        kind = content["mechanism"]["kind"]
        if kind not in largest or content["privacy"]["epsilon"] > largest[kind]["privacy"]["epsilon"]:
            largest[kind] = content
    parts = []
    for kind, content in largest.items():
        loss = loss_of(mechanism_from(content["mechanism"]), content["budget"]["delta"])
        head = f"By the {FOR.get(kind, kind)} alone (ε = {rounded_up(content['privacy']['epsilon'])})"
        parts.append((head, risk_sentences(loss)))
    most = max(contents, key=lambda content: float(content["budget"]["epsilon"]))
    budget, order = most["budget"], most["privacy"]["order"]
    whole = risk_sentences(loss_in_filter(budget["epsilon"], budget["delta"], order))
    parts.append((f"If the whole budget is ever spent (ε = {written(budget['epsilon'])})", whole))
    return promise(parts)
