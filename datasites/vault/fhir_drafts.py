"""Draft the schema of a bulk export of FHIR: kinds and categories are the standard's own, none is read off the file."""

from __future__ import annotations

TOP = """\
# Draft of a schema for {source}, {kind} of FHIR. It becomes public with the dataset: type only what anybody may know.
# Kinds and categories are the standard's; no value of the file is copied.
name = {name}
population = ""          # fill in: the patients; every table about them shares one budget
description = ""
patient = "patient"
holdout = 0.2            # share of patients kept for evaluation, 0 to 0.5
"""
CODES = """\
[file]
codes = []               # fill in the codes of the records that you publish, as ["8867-4"]; others are passed over
"""


def _category(*labels: str, missing: str = "") -> str:
    listed = ", ".join(f'"{label}"' for label in labels)
    constant = f'\nmissing = {{constant = "{missing}"}}' if missing else ""
    return f'kind = "category"\ncategories = [{listed}]{constant}'


_VALUE = """\
kind = "real"
unit = ""
# minimum =            # fill in
# maximum =            # fill in
outside = "clamp\""""
_CODE = 'kind = "category"\n# categories = []      # fill in: the codes of [file]; leave the column out where it is one'
_TIME = """\
kind = "datetime"
truncate = "day"         # or hour, minute, second: no finer than anybody needs
zone = "UTC"             # whose clock it is, as "Europe/Berlin"
minimum = 2000-01-01T00:00:00      # fill in: the first and last day of the study
maximum = 2030-01-01T00:00:00
outside = "clamp\""""
_LATER = f"{_TIME}\nmissing = {{constant = 2030-01-01T00:00:00, indicator = true}}"
_FIRST = f"{_TIME}\nmissing = {{constant = 2000-01-01T00:00:00, indicator = true}}"

COLUMNS = {
    "Patient": {
        "gender": _category("male", "female", "other", "unknown", missing="unknown"),
        "birth_date": 'kind = "date"\nminimum = 1900-01-01\nmaximum = 2030-01-01\noutside = "clamp"',
        "deceased": 'kind = "boolean"',
        "deceased_time": _LATER,
    },
    "Observation": {
        "code": _CODE,
        "time": _TIME,
        "value": _VALUE,
        "status": _category("registered", "preliminary", "final", "amended", "corrected", "cancelled", "unknown"),
    },
    "Condition": {
        "code": _CODE,
        "clinical_status": _category(
            "active", "recurrence", "relapse", "inactive", "remission", "resolved", "unknown", missing="unknown"
        ),
        "onset_time": _FIRST,
        "abatement_time": _LATER,
        "recorded_time": _FIRST,
    },
    "Encounter": {
        "class": _category(
            "AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR", "other", missing="other"
        ),
        "status": _category(
            "planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "unknown"
        ),
        "start_time": _TIME,
        "end_time": _LATER,
    },
}  # fmt: skip


def fhir_schema(kind: str, *, source: str, name: str) -> str:
    """TOML text of a draft for a resource type, one of `COLUMNS`.

    Args:
      source: the file's name, as the text quotes it.
      name: of the dataset, as TOML writes it.
    """
    parts = [TOP.format(source=source, kind=kind, name=name)]
    if "code" in COLUMNS[kind]:
        parts.append(CODES)
    parts += [f"[columns.{column}]\n{body}\n" for column, body in COLUMNS[kind].items()]
    return "\n".join(parts)
