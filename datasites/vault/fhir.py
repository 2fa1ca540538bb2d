"""Read a bulk export of FHIR (R4, newline-delimited JSON) as a flat table of texts: one resource type, one file.

`Patient`, `Observation`, `Condition` and `Encounter` are read, the fields that FIELDS lists; others are left out. An
observation with components, such as a blood pressure, is a row per component that has a value. A resource that was
`entered-in-error` is no record and is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from policies.errors import DataRefused

LONGEST_LINE = 16 << 20
ROWS_AT_ONCE = 50_000
IN_ERROR = "entered-in-error"

Resource = dict[str, Any]


def read_resources(path: Path, codes: tuple[str, ...] = ()) -> tuple[Any, list[int]]:
    """The export's rows as a pyarrow table of texts, and the line of each.

    Args:
      codes: of observations and conditions; others are passed over. Without any, all are read.

    Raises:
      DataRefused: a line is no JSON, no resource of a known type, or of another than the first.
    """
    import pyarrow as pa

    kind, pieces, rows, lines = "", [], list[tuple[str, ...]](), list[int]()

    def flush() -> None:
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(FIELDS[kind])
        arrays = [pa.array(column, pa.string()) for column in columns]
        pieces.append(pa.Table.from_arrays(arrays, names=list(FIELDS[kind])))
        rows.clear()

    for number, resource in _resources(path):
        here = str(resource.get("resourceType", ""))[:60]
        if here not in FIELDS:
            raise DataRefused(f"Line {number} of {path.name} is of type {here!r}. Publish one of {', '.join(FIELDS)}.")
        kind = kind or here
        if here != kind:
            raise DataRefused(f"Line {number} of {path.name} is of type {here!r} and the first of {kind!r}. Part them.")
        for row in _READ[kind](resource, codes):
            rows.append(tuple(row[name] for name in FIELDS[kind]))
            lines.append(number)
        if len(rows) >= ROWS_AT_ONCE:
            flush()
    if not kind:
        raise DataRefused(f"{path.name} has no resources. Export it anew.")
    flush()
    return pa.concat_tables(pieces), lines


def resource_type(path: Path) -> str:
    """The type of an export's first resource, one of `FIELDS`. Raises `DataRefused`."""
    for number, resource in _resources(path):
        here = str(resource.get("resourceType", ""))[:60]
        if here in FIELDS:
            return here
        raise DataRefused(f"Line {number} of {path.name} is of type {here!r}. Publish one of {', '.join(FIELDS)}.")
    raise DataRefused(f"{path.name} has no resources. Export it anew.")


def _resources(path: Path) -> Iterator[tuple[int, Resource]]:
    import msgspec

    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataRefused(f"Line {number} of {path.name} is longer than {LONGEST_LINE} bytes. Export it anew.")
            if not line.strip():
                continue
            try:
                resource = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                raise DataRefused(f"Line {number} of {path.name} is no JSON. Export it anew.") from None
            if not isinstance(resource, dict):
                raise DataRefused(f"Line {number} of {path.name} is no resource of FHIR. Export it anew.")
            yield number, resource


def _at(value: Any, *path: str | int) -> Any:
    """What stands at a path of a resource, or None."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.strip()
    return repr(value) if isinstance(value, int | float) else ""


def _first(resource: Resource, *paths: tuple[str | int, ...]) -> str:
    """The text of the first path at which one stands."""
    return next((text for path in paths if (text := _text(_at(resource, *path)))), "")


def _patient(resource: Resource) -> str:
    """The identifier in a reference such as `Patient/17`, `https://host/fhir/Patient/17` or `urn:uuid:...`."""
    reference = _text(_at(resource, "subject", "reference")).partition("/_history/")[0]
    _, found, identifier = reference.rpartition("Patient/")
    return identifier if found else reference


def _code(concept: Any, codes: tuple[str, ...]) -> str:
    """The code of a concept: one of those asked for where it has one, else its first."""
    codings = _at(concept, "coding")
    listed = [_text(_at(coding, "code")) for coding in codings] if isinstance(codings, list) else []
    return next((code for code in listed if code in codes), listed[0] if listed else _text(_at(concept, "text")))


def _patients(resource: Resource, codes: tuple[str, ...]) -> Iterator[dict[str, str]]:
    deceased = _first(resource, ("deceasedDateTime",))
    yield {
        "patient": _first(resource, ("id",)),
        "gender": _first(resource, ("gender",)),
        "birth_date": _first(resource, ("birthDate",)),
        "deceased": "true" if deceased else _first(resource, ("deceasedBoolean",)) or "false",
        "deceased_time": deceased,
    }


def _observations(resource: Resource, codes: tuple[str, ...]) -> Iterator[dict[str, str]]:
    status = _first(resource, ("status",))
    if status == IN_ERROR:
        return
    parts = _at(resource, "component")
    for part in [resource, *(part for part in (parts if isinstance(parts, list) else []) if isinstance(part, dict))]:
        code = _code(part.get("code"), codes)
        value = _first(part, ("valueQuantity", "value"), ("valueInteger",))
        answer = _code(part.get("valueCodeableConcept"), ()) or _first(part, ("valueString",), ("valueBoolean",))
        if (codes and code not in codes) or not (value or answer or (part is resource and not parts)):
            continue
        yield {
            "patient": _patient(resource),
            "code": code,
            "status": status,
            "time": _first(resource, ("effectiveDateTime",), ("effectiveInstant",), ("effectivePeriod", "start")),
            "value": value,
            "unit": _first(part, ("valueQuantity", "code"), ("valueQuantity", "unit")),
            "answer": answer,
        }


def _conditions(resource: Resource, codes: tuple[str, ...]) -> Iterator[dict[str, str]]:
    verification = _code(resource.get("verificationStatus"), ())
    code = _code(resource.get("code"), codes)
    if verification == IN_ERROR or (codes and code not in codes):
        return
    yield {
        "patient": _patient(resource),
        "code": code,
        "clinical_status": _code(resource.get("clinicalStatus"), ()),
        "verification_status": verification,
        "onset_time": _first(resource, ("onsetDateTime",), ("onsetPeriod", "start")),
        "abatement_time": _first(resource, ("abatementDateTime",), ("abatementPeriod", "start")),
        "recorded_time": _first(resource, ("recordedDate",)),
    }


def _encounters(resource: Resource, codes: tuple[str, ...]) -> Iterator[dict[str, str]]:
    status = _first(resource, ("status",))
    if status == IN_ERROR:
        return
    yield {
        "patient": _patient(resource),
        "status": status,
        "class": _first(resource, ("class", "code"), ("class", 0, "coding", 0, "code")),  # of R4, of R5
        "start_time": _first(resource, ("period", "start"), ("actualPeriod", "start")),
        "end_time": _first(resource, ("period", "end"), ("actualPeriod", "end")),
    }


_READ: dict[str, Callable[[Resource, tuple[str, ...]], Iterator[dict[str, str]]]] = {
    "Patient": _patients, "Observation": _observations, "Condition": _conditions, "Encounter": _encounters,
}  # fmt: skip
FIELDS = {
    "Patient": ("patient", "gender", "birth_date", "deceased", "deceased_time"),
    "Observation": ("patient", "code", "status", "time", "value", "unit", "answer"),
    "Condition": (
        "patient", "code", "clinical_status", "verification_status", "onset_time", "abatement_time", "recorded_time",
    ),
    "Encounter": ("patient", "status", "class", "start_time", "end_time"),
}  # fmt: skip
"""Columns of the table of each resource type; `patient` identifies the patient."""
