"""What publishing noticed about a table, for its owner alone: found, kept beside the rows, read again.

A concern refuses nothing and reaches no researcher, log or time that anybody else sees.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasites.files import replace_private
from datasites.vault.identifiers import Concern
from datasites.vault.patient_marks import FOLDER, Marks, folder, shared_patients
from policies.numbers import written

ENDING = ".json"
ALIKE = 0.85  # of difflib's ratio: "icu-2025" and "icu-2026" are 0.88


def delta_concern(delta: float, patients: int, *, is_new: bool) -> list[Concern]:
    """Whether δ is so large that publishing a whole record of one patient in 1/δ would keep the promise."""
    if delta * patients < 1:
        return []
    next_step = (
        f"Begin the population with a smaller δ, such as {written(_below(0.1 / patients))}."
        if is_new
        else "A population keeps its δ. Weigh it when you decide, or begin the next population with a smaller one."
    )
    return [
        Concern(
            f"δ = {written(delta)} is not below 1 in {patients:,}, the number of patients in this table: a release that"
            " gave away one patient's record could keep such a promise.",
            patients,
            next_step,
        )
    ]


def _below(delta: float) -> float:
    """The power of ten at or below a δ."""
    power = 0
    while 10.0**power > delta:
        power -= 1
    return 10.0**power


def name_concerns(population: str, others: Sequence[str]) -> list[Concern]:
    """Populations whose names look like that of a new one."""
    plain = _plain(population)
    alike = [
        other
        for other in others
        if difflib.SequenceMatcher(None, plain, _plain(other), autojunk=False).ratio() >= ALIKE
    ]
    return [
        Concern(
            f"Population {population!r} is new, and its name looks like {', '.join(map(repr, alike))}.",
            len(alike),
            "If they are the same patients, write that population in the schema: two names are two budgets for them.",
        )
        for _ in alike[:1]
    ]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def overlap_concerns(directory: Path, marks: Marks, versions: dict[str, list[tuple[str, bool]]]) -> list[Concern]:
    """Populations that have patients of this table.

    Args:
      versions: of every other population, each with whether it is published.
    """
    concerns = []
    for population, kept in versions.items():
        shared = max((shared_patients(directory, version, marks, whole=whole) for version, whole in kept), default=0)
        if shared:
            concerns.append(
                Concern(
                    f"{shared:,} of the {len(marks):,} identifiers in this table are also in {population!r}.",
                    shared,
                    f"If they are the same patients, publish under {population!r}: else each of them could lose both"
                    " budgets. If the numbers only happen to be alike, nothing is to be done.",
                )
            )
    return concerns


def keep_report(directory: Path, version: str, notes: Sequence[str], concerns: Sequence[Concern]) -> None:
    """Keep what was noticed about a version (0600)."""
    text = json.dumps({"notes": list(notes), "concerns": [asdict(concern) for concern in concerns]}, ensure_ascii=False)
    replace_private(folder(directory) / f"{version}{ENDING}", text)


def read_report(directory: Path, version: str) -> dict[str, Any] | None:
    """What was noticed about a version; None where nothing was kept, as before there were reports."""
    try:
        report: dict[str, Any] = json.loads((directory / FOLDER / f"{version}{ENDING}").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return report
