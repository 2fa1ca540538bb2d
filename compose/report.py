"""A study's report: one dictionary in, `report.json` and a self-contained `report.html` out.

The page names no outside address, runs no script, follows the reader's choice of light or dark, and reads on a phone.
Every value in it comes from the dictionary, which holds releases and public facts alone; every text is escaped.
Where a study's data are synthetic, the dictionary may also hold true figures, and the page says which they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from compose.report_analyses import regression_section, survival_section
from policies.numbers import with_error
from policies.privacy.risk import loss_in_filter, risk_sentences
from researcher.report_charts import Axis, Bar, Interval, Line, bar_chart, interval_chart, line_chart, round_limits
from researcher.report_parts import LEAVES_OUT, page, pair, promise, section, table

Report = Mapping[str, Any]


def write_report(report: Report, directory: Path) -> tuple[Path, Path]:
    """Write `report.json` and `report.html` into `directory`, made where it is missing; both are replaced whole.

    Args:
      report: see `compose.demo` for the keys; JSON-ready, all numbers finite.

    Raises:
      ValueError: a number is not finite.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts = {"report.json": json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"}
    texts["report.html"] = render(report)
    for name, text in texts.items():
        half = directory / f".{name}.new"
        half.write_text(text, encoding="utf-8")
        half.replace(directory / name)
    return directory / "report.json", directory / "report.html"


def render(report: Report) -> str:
    """The page, complete."""
    sections = [
        _headline(report),
        _hospitals(report),
        pair(_rounds(report), _curves(report)),
        pair(survival_section(report), regression_section(report)),
        pair(_spending(report), _statistics(report)),
        _certificates(report),
        _guarantee(report),
    ]
    return page(str(report.get("title") or "A federated study"), sections)


def _headline(report: Report) -> str:
    auc, hospitals = report["auc"], report["hospitals"]
    joint, local = auc["joint_private"], auc["local_private_mean"]
    synthetic = '<p class="badge">Synthetic patients</p>' if report.get("synthetic") else ""
    gained = "better than" if joint > local else "no better than"
    spent = report.get("study", {}).get("epsilon")
    cost = f" Training cost each hospital ε = {spent:g}." if spent else ""
    tiles = [
        ("Joint, private", joint, "trained together under differential privacy"),
        ("Local, private", local, "mean of each hospital alone, same ε"),
        ("Pooled, not private", auc["pooled_not_private"], "all records in one place, which nobody may do"),
    ]
    lead = (
        f"{_counted(len(hospitals))} hospitals trained one model together, in {report['rounds']} rounds and "
        f"{report['seconds']:.0f} seconds, and no record left any of them. On a common test population the joint "
        f"model is {gained} what a hospital reaches alone: AUC {joint:.3f} against {local:.3f}. With every record in "
        f"one place and no privacy it would be {auc['pooled_not_private']:.3f}.{cost}"
    )
    return (
        f"<header>{synthetic}<h1>{_text(report, 'title', 'A federated study')}</h1><p class='lead'>{lead}</p>"
        "<div class='tiles'>"
        + "".join(
            f"<div class='tile'><p class='name'>{escape(name)}</p><p class='figure'>{value:.3f}</p>"
            f"<p class='note'>{escape(note)}</p></div>"
            for name, value, note in tiles
        )
        + "</div><p class='note'>AUC is the chance that a patient with the illness gets a higher score than one "
        "without: 0.5 is a coin, 1 is perfect.</p></header>"
    )


def _hospitals(report: Report) -> str:
    heads = (
        "Hospital", "Patients, as published", "ε spent", "ε left", "Releases", "AUC, alone", "AUC, together",
        "AUC, as released",
    )  # fmt: skip
    rows = []
    for hospital in report["hospitals"]:
        left = max(hospital["epsilon_budget"] - hospital["epsilon_spent"], 0.0)
        kind = {"dp-count": "DP count", "declared": "declared"}.get(hospital.get("size_kind", ""), "")
        rows.append(
            (
                escape(str(hospital.get("title") or hospital["name"])),
                f"{hospital['patients_published']:,}" + (f" <small>{kind}</small>" if kind else ""),
                f"{hospital['epsilon_spent']:.2f}",
                f"{left:.2f}",
                str(hospital["releases"]),
                _number(hospital["auc_local_private"]),
                f"<strong>{_number(hospital['auc_joint_private'])}</strong>",
                escape(hospital.get("auc_released_note", ""))
                or _number(hospital["auc_released"], hospital["auc_released_error"]),
            )
        )
    return section(
        "What each hospital paid, and what it got",
        table(heads, rows),
        "“Alone” and “together” are measured on the same common test population, outside every datasite. “As released” "
        "is what a hospital itself said of the joint model on its own held-out patients, with noise, and charged for; "
        "it differs between hospitals because their patients do. ± is one standard error, of noise and sampling "
        "together.",
    )


def _rounds(report: Report) -> str:
    values = report["auc"].get("joint_by_round") or []
    if not values:
        return ""
    auc = report["auc"]
    rounds = range(1, len(values) + 1)
    ends = (1.0, float(max(len(values), 2)))
    lines = [
        Line("joint, private", list(zip(rounds, values, strict=True)), dots=True),
        Line("pooled, not private", [(end, auc["pooled_not_private"]) for end in ends], dashed=True),
        Line("local, private (mean)", [(end, auc["local_private_mean"]) for end in ends], dashed=True),
    ]
    everything = [y for line in lines for _, y in line.points]
    x, y = Axis("round", 1, ends[1], whole=True), Axis("AUC", *round_limits(min(everything), max(everything)))
    chart = line_chart("AUC after each round", lines, x, y)
    missing = [f"{gap['hospital']} in round {gap['round']}" for gap in report.get("missing", [])]
    note = f"Left out: {', '.join(missing)}." if missing else "Every hospital took part in every round."
    if averaged := report.get("averaged"):
        note += f" The joint model is the average of the last {averaged}: with less noise than any of them."
    return section("The joint model after each round", chart, note)


def _curves(report: Report) -> str:
    roc = report.get("roc") or {}
    lines = []
    if released := roc.get("released"):
        points = list(zip(released["false_positive_rate"], released["true_positive_rate"], strict=True))
        lines.append(
            Line("as released by the hospitals (95 % band)", points, band=released.get("true_positive_error", ()))
        )
    for key, label, dashed in (("true", "true, of the joint model", False), ("pooled", "pooled, not private", True)):
        if curve := roc.get(key):
            points = list(zip(curve["false_positive_rate"], curve["true_positive_rate"], strict=True))
            lines.append(Line(label, points, dashed=dashed))
    if not lines:
        return ""
    x, y = Axis("false positive rate", 0, 1), Axis("true positive rate", 0, 1)
    note = (
        "The released curve is made of noisy histograms of scores on every hospital's held-out patients. The true one "
        "is measured on the common test population, which weighs the hospitals equally, so the two need not coincide."
    )
    return section("How well it separates", line_chart("ROC curves", lines, x, y, diagonal=True), note)


def _spending(report: Report) -> str:
    bars = [
        Bar(
            str(hospital.get("title") or hospital["name"]),
            hospital["epsilon_spent"],
            hospital["epsilon_budget"],
            f"ε {hospital['epsilon_spent']:.2f} of {hospital['epsilon_budget']:g} at δ = {_small(hospital['delta'])}",
        )
        for hospital in report["hospitals"]
    ]
    charged = report.get("charged_for") or []
    parts = [f"{charge['what']} (ε = {float(charge['epsilon']):g})" for charge in charged]
    note = f"Charged at every hospital: {', '.join(parts)}." if parts else ""
    if parts and max(bar.value for bar in bars) < sum(float(charge["epsilon"]) for charge in charged) - 0.005:
        note += " Together they cost less than their sum: the ledger composes Rényi divergences, which is tighter."
    return section("Privacy spent", bar_chart("ε spent at each hospital", bars), note)


def _statistics(report: Report) -> str:
    given = [hospital for hospital in report["hospitals"] if hospital.get("statistic")]
    if not given:
        return ""
    statistics = [hospital["statistic"] for hospital in given]
    low, high = round_limits(min(figure["low"] for figure in statistics), max(figure["high"] for figure in statistics))
    rows = []
    for hospital, figure in zip(given, statistics, strict=True):
        unit = f" {figure['unit']}" if figure.get("unit") else ""
        text = f"{figure['value']:.2f}{unit} ({figure['low']:.2f} to {figure['high']:.2f})"
        label = str(hospital.get("title") or hospital["name"])
        rows.append(Interval(label, figure["value"], figure["low"], figure["high"], text))
    what = str(statistics[0]["what"])
    chart = interval_chart(what, rows, low=low, high=high)
    return section(
        f"One statistic: {what}",
        chart,
        f"Value and 95 % interval, from {low:g} to {high:g} on the scale. The interval holds the noise that protects "
        "patients and the chance of who came to the hospital.",
    )


def _certificates(report: Report) -> str:
    certificates = report.get("certificates") or []
    if not certificates:
        return ""
    rows = [
        (
            escape(str(certificate["hospital"])),
            escape(str(certificate.get("role", "training"))),
            str(certificate["round"]),
            f"<code>{escape(str(certificate['file']))}</code>",
            f"<code class='digest'>{escape(str(certificate['sha256']))}</code>",
        )
        for certificate in certificates
    ]
    made = table(("Hospital", "For", "Round", "File", "SHA-256 of the file"), rows)
    return section(
        "Certificates",
        f"<details><summary>{len(rows)} releases, each signed by its hospital</summary>{made}</details>",
        "Check one offline, with nothing of the hospital's: researcher verify FILE.",
    )


def _guarantee(report: Report) -> str:
    hospitals = report["hospitals"]
    budget = max(hospital["epsilon_budget"] for hospital in hospitals)
    delta = max(hospital["delta"] for hospital in hospitals)
    spent = max(hospital["epsilon_spent"] for hospital in hospitals)

    order = min(hospital.get("order", 2) for hospital in hospitals)  # the lowest allows the largest loss

    def risks(epsilon: float) -> list[str]:
        return risk_sentences(loss_in_filter(epsilon, delta, order))

    fit = "Whether the model is fit for care. This page says how well it separates, and nothing more."
    return promise(
        [
            (f"So far, at the hospital that spent most (ε = {spent:.2f})", risks(spent)),
            (f"If the whole budget is ever spent (ε = {budget:g})", risks(budget)),
        ],
        leaves_out=(*LEAVES_OUT, fit),
    )


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "none"
    return f"{value:.3f}" if error is None else with_error(value, error)


def _counted(number: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six")
    return words[number] if number < len(words) else str(number)


def _small(delta: float) -> str:
    """A δ as people write it: 1e-5, not 1e-05."""
    mantissa, _, exponent = f"{delta:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _text(report: Report, key: str, otherwise: str) -> str:
    return escape(str(report.get(key) or otherwise))
