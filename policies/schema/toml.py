"""Reading and writing a schema's plain data as TOML; `schema.columns` checks what the values may be."""

from __future__ import annotations

import dataclasses
import datetime
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from policies.errors import DataRefused
from policies.schema.as_written import UNITS, FileFormat, as_words
from policies.schema.columns import BOOLEAN_LABELS, TIMES, Column, is_number
from policies.schema.targets import target_from
from policies.schema.tensors import Tensor

LARGEST_TEXT = 1 << 20
TOP = ("name", "population", "description", "patient", "target", "holdout")
MOST_RECORDS = "most_records_per_patient"  # stands there only where it is not the usual one
TRANSFORMATIONS = "transformations"  # likewise, only where some are declared
MISSING_VALUES, PATIENT_HEADER, FILE, TENSORS = "missing_values", "patient_header", "file", "tensors"  # likewise
TOML_COLUMN = (
    "kind", "unit", "minimum", "maximum", "categories", "missing", "outside", "feature", "description",
    "header", "missing_values", "labels", "truncate", "zone", "format",
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
    later = (MOST_RECORDS, MISSING_VALUES, PATIENT_HEADER, FILE)
    _check_keys("The schema", data, (*TOP, *later, "columns", "sequences", TRANSFORMATIONS, TENSORS))
    for name in ("name", "population", "patient"):
        if not isinstance(data.get(name), str):
            raise DataRefused(f"The schema needs {name} = '...' at its top, above the first [columns.…].")
    target = target_from(data.get("target"))
    columns = data.get("columns")
    if not isinstance(columns, list | tuple) or not all(isinstance(column, Mapping) for column in columns):
        raise DataRefused("The schema declares no columns. Write a table as [columns.age] for each.")
    return {
        **data,
        "target": target,
        "columns": [_column_fields(column) for column in columns],
        "sequences": _sequences(data.get("sequences", {})),
        TRANSFORMATIONS: _transformations(data.get(TRANSFORMATIONS, {})),
        **({MISSING_VALUES: as_words(MISSING_VALUES, data[MISSING_VALUES])} if MISSING_VALUES in data else {}),
        **({FILE: FileFormat.from_dict(data[FILE])} if FILE in data else {}),
        **({TENSORS: _tensors(data[TENSORS])} if TENSORS in data else {}),
    }


def write(data: Mapping[str, Any]) -> str:
    """The text of a `schema.toml` of plain data."""
    lines = [f"{name} = {value_text(data[name])}" for name in TOP if data[name] not in ("", None)]
    if MOST_RECORDS in data:
        lines.append(f"{MOST_RECORDS} = {value_text(data[MOST_RECORDS])}")
    lines += [f"{name} = {value_text(data[name])}" for name in (MISSING_VALUES, PATIENT_HEADER) if name in data]
    if FILE in data:
        lines += ["", "[file]", *(f"{name} = {value_text(value)}" for name, value in data[FILE].items())]
    for fields in data["columns"]:
        lines += ["", f"[columns.{value_text(fields['name'])}]", *_column_lines(Column(**_column_fields(fields)))]
    if data["sequences"]:
        lines += ["", "[sequences]"]
        lines += [f"{value_text(name)} = {value_text(steps)}" for name, steps in data["sequences"].items()]
    for name, fields in data.get(TENSORS, {}).items():
        lines += ["", f"[tensors.{value_text(name)}]"]
        lines += [f"{key} = {value_text(value)}" for key, value in fields.items()]
    if declared := data.get(TRANSFORMATIONS):
        lines += ["", f"[{TRANSFORMATIONS}]"]
        lines += [f"{value_text(fields['name'])} = {_transformation(fields)}" for fields in declared]
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
    return {**fields, "categories": tuple(categories), **numbers, **_as_written(fields)}


def _as_written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """How the table writes a column, of lists and tables; label maps in one order, whoever typed them."""
    where, written = f"Column {fields['name']!r}", dict[str, Any]()
    if fields.get("missing_values") is not None:
        written["missing_values"] = as_words(f"{where}: missing_values", fields["missing_values"])
    label_map = fields.get("label_map", {})
    pairs = label_map.items() if isinstance(label_map, Mapping) else label_map
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise DataRefused(f"{where}: labels should be a table of texts, as {{'M' = 'male', 'F' = 'female'}}.")
    if label_map:
        written["label_map"] = tuple(sorted((text, label) for text, label in pairs))
    return written


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


def _tensors(table: Any) -> tuple[Tensor, ...]:
    """Tensors by name."""
    if not isinstance(table, Mapping):
        raise DataRefused("[tensors] is a table of names and declarations. Write [tensors.xray] for each.")
    return tuple(Tensor.from_dict(name, fields) for name, fields in table.items())


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
    return value_text(fields["term"] if fields.get("feature", True) else kept)


def _column_from_toml(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Plain data of one `[columns.name]`: dates become days, a missing constant becomes its matrix units."""
    where = f"Column {name!r}"
    _check_keys(where, table, TOML_COLUMN)
    fields = {"name": name, **{key: value for key, value in table.items() if key != "labels"}}
    if "labels" in table:
        fields |= _labels(where, table)
    if table.get("kind") == "date":
        fields |= _date_bounds(where, table)
    if table.get("kind") == "datetime":
        fields |= _time_bounds(where, table)
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


def _time_bounds(where: str, table: dict[str, Any]) -> dict[str, Any]:
    unit = UNITS.get(table.get("truncate", ""))
    if unit is None:
        raise DataRefused(f"{where} needs truncate = one of {', '.join(map(repr, UNITS))}: the unit of its times.")
    bounds = {}
    for name in ("minimum", "maximum"):
        if table.get(name) is None:
            raise DataRefused(f"{where} needs a {name}: bounds are public and never taken from the data. Write a time.")
        bounds[name] = _seconds(f"{where}: {name}", table[name])
        if bounds[name] % unit:
            raise DataRefused(f"{where}: {name}={table[name]} is not a whole {table['truncate']}. Write one that is.")
    if bounds["maximum"] <= bounds["minimum"]:
        raise DataRefused(f"{where}: maximum={table['maximum']} is not after minimum={table['minimum']}.")
    origin = (_EPOCH + datetime.timedelta(seconds=bounds["minimum"])).isoformat(timespec="seconds")
    return {"minimum": 0.0, "maximum": float((bounds["maximum"] - bounds["minimum"]) // unit), "origin": origin}


def _seconds(what: str, value: Any) -> int:
    """A time on a clock as seconds since 1970; a date is its first one. Raises `DataRefused`."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        raise DataRefused(f"{what}={value} has an offset. Write it without: it is on the clock of the column's zone.")
    if not isinstance(value, datetime.date):
        raise DataRefused(f"{what}={value!r} is not a time. Write it bare, as 2020-01-31T12:00:00.")
    begun = value if isinstance(value, datetime.datetime) else datetime.datetime.combine(value, datetime.time())
    if begun.microsecond:
        raise DataRefused(f"{what}={value} is finer than a second. Write a whole one.")
    return int((begun - _EPOCH).total_seconds())


_EPOCH = datetime.datetime(1970, 1, 1)


def _labels(where: str, table: dict[str, Any]) -> dict[str, Any]:
    """A label map, and the categories where it alone lists them, in its order."""
    labels = table["labels"]
    if not isinstance(labels, dict):
        raise DataRefused(f"{where}: labels should be a table of texts, as {{'M' = 'male', 'F' = 'female'}}.")
    if table.get("kind") == "boolean":
        labels = {text: BOOLEAN_LABELS[label] if isinstance(label, bool) else label for text, label in labels.items()}
    known = {} if "categories" in table or table.get("kind") != "category" else dict.fromkeys(labels.values())
    return {"label_map": labels, **({"categories": list(known)} if known else {})}


def _constant(where: str, constant: Any, fields: dict[str, Any]) -> float:
    """A declared constant in matrix units."""
    kind = fields.get("kind")
    if kind == "category" and isinstance(fields.get("categories"), list) and constant in fields["categories"]:
        return float(fields["categories"].index(constant))
    if kind == "boolean" and isinstance(constant, bool):
        return float(constant)
    if kind == "date" and _is_date(constant):
        return float((constant - datetime.date.fromisoformat(fields["origin"])).days)
    if kind == "datetime" and isinstance(constant, datetime.date):
        begin = datetime.datetime.fromisoformat(fields["origin"])
        return (_seconds(f"{where}: missing constant", constant) - _seconds(where, begin)) / UNITS[fields["truncate"]]
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
    values |= {"header": column.header, "truncate": column.truncate, "zone": column.zone, "format": column.format}
    lines = []
    if column.missing_values is not None:  # an empty list says something: that nothing stands for a missing cell
        lines.append(f"missing_values = {value_text(column.missing_values)}")
    if column.label_map:
        listed = ", ".join(f"{quoted(text)} = {quoted(label)}" for text, label in column.label_map)
        lines.append(f"labels = {{{listed}}}")
    return lines + [f"{name} = {value_text(value)}" for name, value in values.items() if value not in ("", [])]


def _natural(column: Column, value: float) -> Any:
    """A value in matrix units as TOML writes it."""
    if column.kind == "boolean":
        return bool(value)
    if column.kind == "category":
        return column.categories[int(value)]
    if column.kind in TIMES:
        read = datetime.date if column.kind == "date" else datetime.datetime
        return read.fromisoformat(column.written_time(value))
    return int(value) if column.kind == "integer" else value


def value_text(value: Any) -> str:
    """One TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {value_text(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return value.isoformat() if isinstance(value, datetime.date) else repr(value)
