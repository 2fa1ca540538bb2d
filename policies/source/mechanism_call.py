"""Parse the call that a request returns into a mechanism. Its arguments are literals."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import (
    DPSGD,
    STATISTICS,
    Evaluation,
    KaplanMeier,
    Mechanism,
    Query,
    Regression,
    Statistics,
)
from policies.privacy.other_names import SAME, finding, plain_name
from policies.privacy.secure_aggregation import secure_aggregation_from
from policies.source.findings import Findings

FUNCTIONS: dict[str, type[Mechanism]] = {
    "dp_sgd": DPSGD,
    "evaluate": Evaluation,
    "statistics": Statistics,
    "kaplan_meier": KaplanMeier,
    "regression": Regression,
}
WITHOUT_MODEL = frozenset({"statistics", "kaplan_meier", "regression"})
_SETTINGS = {name: frozenset(field.name for field in dataclasses.fields(kind)) for name, kind in FUNCTIONS.items()}
LISTS = (
    "inputs",
    "target",
    "class_weights",
    "subgroups",
    "terms",
    "outcome_range",
    "frozen",
    "local",
)  # written with brackets or not
_COLUMNS = ("sum", "mean", "variance", "histogram", "missing", "describe")
_MISSING = object()


def mechanism_of(
    call: ast.Call, imported: set[str], classes: list[str], parameters: tuple[str, ...], findings: Findings
) -> tuple[Mechanism, str | None] | None:
    """The mechanism and the model's name that `call` declares, or None with findings that say why not."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name not in FUNCTIONS or name not in imported:
        findings.add(
            "mechanism",
            call,
            "What leaves is a mechanism's release alone.",
            f"Return one of {', '.join(FUNCTIONS)}, imported from datasites.mechanisms.",
        )
        return None
    alone = name in WITHOUT_MODEL
    wanted: tuple[str, ...] = ("records", "round") if alone else ("records", "weights", "round")
    if alone and parameters == ("records",):  # PySyft's single-use function, of its data alone
        wanted = ("records",)
    passed = [argument.id if isinstance(argument, ast.Name) else "" for argument in call.args]
    model = None if alone else (passed or [""])[0]
    if (
        tuple(passed[model is not None :]) != wanted
        or parameters != wanted
        or (model is not None and model not in classes)
    ):
        first = "" if alone else "Model, "
        findings.add(
            "mechanism",
            call,
            f"{name} takes {first}{', '.join(wanted)} and literal settings by name.",
            f"Write {name}({first}{', '.join(wanted)}, ...), with a class defined above as Model.",
        )
        return None
    settings = _settings(name, call, findings)
    if settings is None:
        return None
    try:
        if "secure_aggregation" in settings:
            settings["secure_aggregation"] = secure_aggregation_from(settings["secure_aggregation"])
        if name == "statistics":
            return _statistics(settings), None
        return FUNCTIONS[name](**settings), model
    except UnsupportedMechanism as error:
        findings.add("mechanism", _culprit(call, str(error)), str(error), "Change the value.")
    except OverflowError:
        findings.add("mechanism", call, "A number has too many digits.", "Use fewer.")
    except TypeError:
        missing = sorted(_required(name) - set(settings))
        findings.add(
            "mechanism", call, f"{name} needs {', '.join(missing)}.", f"Add {missing[0] if missing else 'it'}=..."
        )
    return None


def _settings(name: str, call: ast.Call, findings: Findings) -> dict[str, Any] | None:
    known = _SETTINGS[name] - {"queries"} | (frozenset(STATISTICS) if name == "statistics" else frozenset())
    settings: dict[str, Any] = {}
    before = len(findings.found)
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg not in known:
            ours = SAME.get(keyword.arg or "", "")
            text = _plain_text(ours, keyword.value)
            borrowed = finding(keyword.arg or "", text) if name == "dp_sgd" else None
            if borrowed is not None:
                findings.add("mechanism", keyword.value, *borrowed)
                continue
            findings.add(
                "mechanism",
                keyword.value,
                f"{name} takes no {keyword.arg or '**'}.",
                f"It takes {', '.join(sorted(known))}.",
            )
            continue
        value = literal(keyword.value)
        if value is _MISSING:
            text, written = _plain_text(keyword.arg, keyword.value), ast.unparse(keyword.value)[:60]
            findings.add(
                "literal",
                keyword.value,
                f"{keyword.arg} is not written as a plain value, so it cannot be read.",
                "Write the number or text itself." if text == written else f"Write {keyword.arg}={text}.",
            )
        settings[keyword.arg] = _tupled(value) if keyword.arg in LISTS else value
    return settings if len(findings.found) == before else None


def _plain_text(setting: str, value: ast.expr) -> str:
    """A value as it may stand in a request, where it is an object of torch that has a name here; else as it stands."""
    called = value.func if isinstance(value, ast.Call) else value
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    known = plain_name(setting, name)
    return f'"{known}"' if known else ast.unparse(value)[:60]


def literal(node: ast.expr) -> Any:
    """The value of a plain number, text, boolean, None, or a list, tuple or dictionary of such; else `_MISSING`."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) in (int, float, str, bool, type(None)) else _MISSING
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value if type(node.operand.value) in (int, float) else _MISSING  # type: ignore[operator]
    if isinstance(node, ast.Tuple | ast.List):
        values = [literal(element) for element in node.elts]
        if any(value is _MISSING for value in values):
            return _MISSING
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict):
        keys = [literal(key) if key is not None else _MISSING for key in node.keys]
        values = [literal(value) for value in node.values]
        plain = all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys)
        return dict(zip(keys, values, strict=True)) if plain and _MISSING not in map(_or_none, values) else _MISSING
    return _MISSING


def _tupled(value: Any) -> Any:
    return tuple(_tupled(part) for part in value) if isinstance(value, list | tuple) else value


def _or_none(value: Any) -> Any:
    return _MISSING if value is _MISSING else None


def _statistics(settings: dict[str, Any]) -> Statistics:
    """Queries in the order in which they are written."""
    queries: list[Query] = []
    rest: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "group_by":
            rest[name] = groupings_from(value)
        elif name not in STATISTICS:
            rest[name] = value
        elif name == "count":
            if value is not True and value is not False:
                raise UnsupportedMechanism(f"count={value!r:.60} is neither True nor False.")
            queries += [Query("count")] if value else []
        elif name in _COLUMNS:
            queries += [Query(name, (column,)) for column in _texts(name, value)]
        elif name == "quantiles":
            if not isinstance(value, dict):
                raise UnsupportedMechanism("quantiles is not written as {'age': [0.25, 0.5, 0.75]}.")
            for column, ranks in value.items():
                ranks = ranks if isinstance(ranks, list | tuple) else [ranks]
                queries.append(Query(name, (column,), tuple(ranks)))
        else:
            pairs = [value] if isinstance(value, tuple) and all(isinstance(name, str) for name in value) else value
            if not isinstance(pairs, list | tuple):
                raise UnsupportedMechanism("crosstab is not written as [('sex', 'influenza')].")
            queries += [Query(name, tuple(_texts(name, pair))) for pair in pairs]
    return Statistics(queries=tuple(queries), **rest)


def _texts(name: str, value: Any) -> list[str]:
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list | tuple) or not all(isinstance(column, str) and column for column in columns):
        raise UnsupportedMechanism(f"{name}={value!r:.60} is neither a column's name nor a list of them.")
    return list(columns)


def _required(name: str) -> set[str]:
    fields = dataclasses.fields(FUNCTIONS[name])
    return {field.name for field in fields if field.default is dataclasses.MISSING and field.name != "queries"}


def _culprit(call: ast.Call, message: str) -> ast.AST:
    """The argument that a message begins with, so that the finding points at it."""
    return next((keyword.value for keyword in call.keywords if keyword.arg and message.startswith(keyword.arg)), call)
