"""Reading and writing a schema's plain data as TOML; `schema.columns` checks what the values may be."""

from __future__ import annotations

import dataclasses
import datetime
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from policies.errors import DataRefused
from policies.schema.columns import Column, is_number

LARGEST_TEXT = 1 << 20
TOP = ("name", "population", "description", "patient", "target", "holdout")
MOST_RECORDS = "most_records_per_patient"  # stands there only where it is not the usual one
TRANSFORMATIONS = "transformations"  # likewise, only where some are declared
TOML_COLUMN = (
    "kind", "unit", "minimum", "maximum", "categories", "missing", "outside", "feature", "description",
)  # fmt: skip
PLAIN_COLUMN = tuple(field.name for field in dataclasses.fields(Column))


def read(text: str) -> dict[str, Any]:
    """The plain data (as `Schema.as_dict` writes it) in the text of a `schema.toml`. Raises `DataRefused`."""
    if len(text) > LARGEST_TEXT:
        raise DataRefused(f"The schema is longer than {LARGEST_TEXT} characters. Declare fewer columns.")
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataRefused(f"The schema is not TOML: {error}. Mend that line.") from None
    columns = data.get("columns")
    if not isinstance(columns, dict) or not all(isinstance(column, dict) for column in columns.values()):
        raise DataRefused("The schema declares no columns. Write a table as [columns.age] for each.")
    return {**data, "columns": [_column_from_toml(name, table) for name, table in columns.items()]}


def checked_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `Schema`, its columns as arguments for `Column`; names and containers are checked here."""
    if not isinstance(data, Mapping):
        raise DataRefused("A schema is a table of names and values.")
    _check_keys("The schema", data, (*TOP, MOST_RECORDS, "columns", "sequences", TRANSFORMATIONS))
    for name in ("name", "population", "patient"):
        if not isinstance(data.get(name), str):
            raise DataRefused(f"The schema needs {name} = '...' at its top, above the first [columns.…].")
    target = data.get("target")
    if target is not None and not isinstance(target, str):
        raise DataRefused(f"target={target!r} should be the name of a column.")
    columns = data.get("columns")
    if not isinstance(columns, list | tuple) or not all(isinstance(column, Mapping) for column in columns):
        raise DataRefused("The schema declares no columns. Write a table as [columns.age] for each.")
    return {
        **data,
        "columns": [_column_fields(column) for column in columns],
        "sequences": _sequences(data.get("sequences", {})),
        TRANSFORMATIONS: _transformations(data.get(TRANSFORMATIONS, {})),
    }


def write(data: Mapping[str, Any]) -> str:
    """The text of a `schema.toml` of plain data."""
    lines = [f"{name} = {_value(data[name])}" for name in TOP if data[name] not in ("", None)]
    if MOST_RECORDS in data:
        lines.append(f"{MOST_RECORDS} = {_value(data[MOST_RECORDS])}")
    for fields in data["columns"]:
        lines += ["", f"[columns.{_value(fields['name'])}]", *_column_lines(Column(**_column_fields(fields)))]
    if data["sequences"]:
        lines += ["", "[sequences]"]
        lines += [f"{_value(name)} = {_value(steps)}" for name, steps in data["sequences"].items()]
    if declared := data.get(TRANSFORMATIONS):
        lines += ["", f"[{TRANSFORMATIONS}]"]
        lines += [f"{_value(fields['name'])} = {_transformation(fields)}" for fields in declared]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Any text as a string of TOML, which is also a key.

    JSON's escapes are TOML's, but for two: TOML asks to escape U+007F, which JSON leaves, and has no half of a
    surrogate pair. Raises `DataRefused` for such a half, which is no text.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataRefused(f"{text[:60]!r} is not text in Unicode. Type it anew.")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_keys(what: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise DataRefused(f"{what} has {str(key)[:60]!r}, which is not known. Use {', '.join(known)}.")


def _column_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    if not {"name", "kind"} <= set(fields):
        raise DataRefused(f"Column {fields.get('name', '')!r} needs a kind, as kind = 'real'.")
    _check_keys(f"Column {fields['name']!r}", fields, PLAIN_COLUMN)
    categories = fields.get("categories", ())
    if not isinstance(categories, list | tuple):
        raise DataRefused(f"Column {fields['name']!r}: categories should be a list of labels.")
    numbers = {name: float(fields[name]) for name in ("minimum", "maximum", "missing") if is_number(fields.get(name))}
    return {**fields, "categories": tuple(categories), **numbers}


def _sequences(table: Any) -> tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]:
    """Steps of columns by name; a plain list of columns is one channel."""
    if not isinstance(table, Mapping):
        raise DataRefused("[sequences] is a table of names and lists of columns.")
    sequences = []
    for name, steps in table.items():
        if not isinstance(steps, list | tuple) or not all(isinstance(step, str | list | tuple) for step in steps):
            raise DataRefused(f"Sequence {name!r} should be a list of columns, or of lists of columns.")
        rows = tuple((step,) if isinstance(step, str) else tuple(step) for step in steps)
        if not all(isinstance(column, str) for row in rows for column in row):
            raise DataRefused(f"Sequence {name!r} should be a list of columns, or of lists of columns.")
        sequences.append((name, rows))
    return tuple(sequences)


def _transformations(table: Any) -> list[dict[str, Any]]:
    """Plain data of each; a table of terms by name, or a list that has the names inside, which keeps their order."""
    if isinstance(table, Mapping):
        table = [
            {"name": name, **(fields if isinstance(fields, Mapping) else {"term": fields})}
            for name, fields in table.items()
        ]
    if not isinstance(table, list | tuple):
        raise DataRefused(f"[{TRANSFORMATIONS}] is a table of names and terms, as age_bands = 'bands(age, 18, 65)'.")
    for fields in table:
        if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
            raise DataRefused(
                f"[{TRANSFORMATIONS}] is a table of names and terms, as age_bands = 'bands(age, 18, 65)'."
            )
        where = f"Transformation {fields['name'][:60]!r}"
        _check_keys(where, fields, ("name", "term", "feature"))
        if not isinstance(fields.get("term"), str):
            raise DataRefused(f"{where} needs a term, as 'log(crp, 1)' or {{term = 'log(crp, 1)', feature = false}}.")
        if not isinstance(fields.get("feature", True), bool):
            raise DataRefused(f"{where}: feature={fields['feature']!r:.60} is neither true nor false.")
    return [dict(fields) for fields in table]


def _transformation(fields: Mapping[str, Any]) -> str:
    kept = {"term": fields["term"], "feature": False}
    return _value(fields["term"] if fields.get("feature", True) else kept)


def _column_from_toml(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Plain data of one `[columns.name]`: dates become days, a missing constant becomes its matrix units."""
    where = f"Column {name!r}"
    _check_keys(where, table, TOML_COLUMN)
    fields = {"name": name, **table}
    if table.get("kind") == "date":
        fields |= _date_bounds(where, table)
    missing = table.get("missing", "refuse")
    if isinstance(missing, dict):
        _check_keys(f"{where}: missing", missing, ("constant", "indicator"))
        if "constant" not in missing:
            raise DataRefused(f"{where}: missing needs a constant, as {{constant = 0, indicator = true}}.")
        fields["missing"] = _constant(where, missing["constant"], fields)
        fields["indicator"] = missing.get("indicator", False)
    elif missing != "refuse":
        raise DataRefused(f"{where}: missing={missing!r} is neither 'refuse' nor {{constant = ..., indicator = true}}.")
    return fields


def _date_bounds(where: str, table: dict[str, Any]) -> dict[str, Any]:
    for name in ("minimum", "maximum"):
        bound = table.get(name)
        if bound is None:
            raise DataRefused(f"{where} needs a {name}: bounds are public and never taken from the data. Write a date.")
        if not _is_date(bound):
            raise DataRefused(f"{where}: {name}={bound!r} is not a date. Write it bare, as {name} = 2020-01-31.")
    days = (table["maximum"] - table["minimum"]).days
    if days <= 0:
        raise DataRefused(f"{where}: maximum={table['maximum']} is not after minimum={table['minimum']}.")
    return {"minimum": 0.0, "maximum": float(days), "origin": table["minimum"].isoformat()}


def _constant(where: str, constant: Any, fields: dict[str, Any]) -> float:
    """A declared constant in matrix units."""
    kind = fields.get("kind")
    if kind == "category" and isinstance(fields.get("categories"), list) and constant in fields["categories"]:
        return float(fields["categories"].index(constant))
    if kind == "boolean" and isinstance(constant, bool):
        return float(constant)
    if kind == "date" and _is_date(constant):
        return float((constant - datetime.date.fromisoformat(fields["origin"])).days)
    if kind in ("real", "integer") and is_number(constant):
        return float(constant)
    raise DataRefused(f"{where}: missing constant {constant!r} is not a value of kind {kind!r}. Choose one that is.")


def _is_date(value: Any) -> bool:
    return isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)


def _column_lines(column: Column) -> list[str]:
    values: dict[str, Any] = {"kind": column.kind, "unit": column.unit}
    if column.minimum is not None:
        values |= {"minimum": _natural(column, column.low), "maximum": _natural(column, column.high)}
    values |= {"categories": list(column.categories), "description": column.description}
    if not isinstance(column.missing, str):
        values["missing"] = {"constant": _natural(column, float(column.missing)), "indicator": column.indicator}
    if column.outside != "refuse":
        values["outside"] = column.outside
    if not column.feature:
        values["feature"] = False
    return [f"{name} = {_value(value)}" for name, value in values.items() if value not in ("", [])]


def _natural(column: Column, value: float) -> Any:
    """A value in matrix units as TOML writes it."""
    if column.kind == "boolean":
        return bool(value)
    if column.kind == "category":
        return column.categories[int(value)]
    if column.kind == "date":
        return datetime.date.fromisoformat(column.origin) + datetime.timedelta(days=int(value))
    return int(value) if column.kind == "integer" else value


def _value(value: Any) -> str:
    """One TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_value(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return value.isoformat() if isinstance(value, datetime.date) else repr(value)
