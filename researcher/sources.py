"""Generate the readable source of a code request from a model class and a declared mechanism.

The researcher's classes appear as they were written, only indented; nothing in them is rewritten. Names that they use
from elsewhere become imports at the top of the function, functions and constants beside the classes, or are refused,
before anything is asked.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import json
import keyword
import linecache
import re
import symtable
import sys
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from policies.errors import InvalidRequest
from policies.privacy.grouping import as_literal
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Regression, Statistics
from policies.privacy.secure_aggregation import SecureAggregation
from policies.python_trees import parsed
from policies.text import check_visible

WIDTH = 100
FUNCTIONS = {
    DPSGD: "dp_sgd",
    Evaluation: "evaluate",
    Statistics: "statistics",
    KaplanMeier: "kaplan_meier",
    Regression: "regression",
}
# Where an object that a model names is imported from, tried in this order.
MODULES = ("torch", "torch.nn", "math", "typing", "collections", "torch.nn.functional")
LONGEST_CONSTANT = 200  # letters of a number, text or list outside a class that goes with it


def function_name(study: str) -> str:
    """The name of a study's function: `flu-2026` gives `flu_2026`. Raises `InvalidRequest` where none can be made."""
    name = re.sub(r"\W+", "_", study.strip(), flags=re.ASCII).strip("_").lower()
    if not name or not name.isidentifier() or keyword.iskeyword(name) or len(name) > 80:
        raise InvalidRequest(
            f"The study's name {study!r} cannot name a function. Begin with a letter, as 'flu-2026'; at most 80 long."
        )
    return name


def request_source(function: str, mechanism: Mechanism, *, model: type | None = None, purpose: str = "") -> str:
    """The source of a code request that runs `mechanism`, with the model class and its helper classes inside.

    Args:
      function: its name.
      mechanism: what will run; only what differs from the defaults is written out.
      model: the model class; None for statistics.
      purpose: what it is for, in the researcher's words; becomes the docstring that the owner reads.

    Raises:
      InvalidRequest: the model's source cannot be found, or it uses a name that cannot be imported at a hospital.
    """
    if not isinstance(purpose, str):
        raise InvalidRequest(f"purpose={purpose!r} is not a text. Say in words what it is for.")
    check_visible(purpose, "The purpose")
    imports, classes = model_source(model) if model is not None else ([], [])
    mechanism_name = FUNCTIONS[type(mechanism)]
    parameters = ["records", "round"] if model is None else ["records", "weights", "round"]
    arguments = [*([model.__name__] if model else []), *parameters]
    parts = [
        _docstring(purpose),
        "\n".join([f"from datasites.mechanisms import {mechanism_name}", *imports]),
        *(text + "\n" for text in classes),
        _call(mechanism_name, arguments, literals(mechanism)),
    ]
    body = "\n\n".join(part.rstrip("\n") for part in parts if part)
    body = body.replace('"""\n\nfrom', '"""\nfrom', 1) if purpose else body
    return f"def {function}({', '.join(parameters)}):\n{textwrap.indent(body, '    ')}\n"


def literals(mechanism: Mechanism) -> dict[str, Any]:
    """The mechanism's arguments that differ from their defaults, in order, as the call in the source writes them."""
    if isinstance(mechanism, Statistics):
        return _statistics_literals(mechanism)
    return {
        parameter.name: getattr(mechanism, parameter.name)
        for parameter in dataclasses.fields(mechanism)
        if getattr(mechanism, parameter.name) != parameter.default
    }


def model_source(model: type) -> tuple[list[str], list[str]]:
    """Import lines, and the sources of the helper classes that `model` names and of `model`, helpers first."""
    imports: dict[str, set[str]] = {}
    classes: dict[str, str] = {}
    _collect(model, imports, classes, seen=set())
    lines = [f"import {module}" for module in sorted(imports.pop("", set()))]
    lines += [f"from {home} import {', '.join(sorted(imports[home], key=str.lower))}" for home in sorted(imports)]
    return lines, list(classes.values())


def freezes(model: type) -> bool:
    """Whether the text of a model or of its helpers speaks of `requires_grad`."""
    return any("requires_grad" in text for text in model_source(model)[1])


def class_source(model: type) -> str:
    """The text of a class from a module, a script or a notebook cell, dedented."""
    for method in _functions(model):
        code = method.__code__
        lines = linecache.getlines(code.co_filename)
        for node in _class_nodes("".join(lines), model.__name__):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= code.co_firstlineno <= (node.end_lineno or node.lineno):
                return textwrap.dedent("".join(lines[first - 1 : node.end_lineno])).rstrip() + "\n"
    try:
        return textwrap.dedent(inspect.getsource(model)).rstrip() + "\n"
    except (OSError, TypeError):
        raise InvalidRequest(
            f"The source of {model.__name__} cannot be found, and a hospital's owner has to read it. "
            "Write the class in a file or in a notebook cell."
        ) from None


def _collect(model: type, imports: dict[str, set[str]], classes: dict[str, str], *, seen: set[Any]) -> None:
    seen.add(model)
    source = class_source(model)
    _collect_names(model, source, _namespace(model), imports, classes, seen=seen)
    classes[model.__name__] = source  # after its helpers, which the loop has added


def _collect_function(
    function: FunctionType, imports: dict[str, set[str]], classes: dict[str, str], *, seen: set[Any]
) -> None:
    seen.add(function)
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip() + "\n"
    except (OSError, TypeError):
        raise InvalidRequest(
            f"The source of {function.__name__} cannot be found, and a hospital's owner has to read it. "
            "Write it in a file or in a notebook cell."
        ) from None
    if not source.startswith("def "):
        raise InvalidRequest(f"{function.__name__} is no plain function. Write it with def, without decorators.")
    names = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        names[name] = cell.cell_contents
    _collect_names(function, source, names, imports, classes, seen=seen)
    classes[function.__name__] = source


def _constant(value: Any) -> str | None:
    """A plain number, text, boolean or a short list of such, as it is written; None of anything else."""
    plain = isinstance(value, list | tuple) and all(type(part) in (int, float, bool, str) for part in value)
    if type(value) not in (int, float, bool, str) and not plain:
        return None
    written = _literal(value)
    return written if len(written) <= LONGEST_CONSTANT and "inf" not in written and "nan" not in written else None


def _is_librarys(name: str, value: Any) -> bool:
    """Whether a name means one of math's numbers, which is imported."""
    return bool(getattr(sys.modules["math"], name, None) == value)


def _collect_names(
    model: Any,
    source: str,
    namespace: dict[str, Any],
    imports: dict[str, set[str]],
    classes: dict[str, str],
    *,
    seen: set[Any],
) -> None:
    """Everything that a class's or function's text takes from outside it: imports, helpers before what uses them."""
    for name in _outside_names(source):
        if name == model.__name__ or (name not in namespace and hasattr(builtins, name)):
            continue
        if name not in namespace:
            raise InvalidRequest(f"{model.__name__} uses {name!r}, which is defined nowhere.")
        value = namespace[name]
        if isinstance(value, FunctionType) and not _is_library(value.__module__ or ""):
            if value not in seen:
                _collect_function(value, imports, classes, seen=seen)
        elif (written := _constant(value)) is not None and not _is_librarys(name, value):
            classes[name] = f"{name} = {written}\n"
        elif isinstance(value, type) and not _is_library(value.__module__):
            if value.__name__ != name:
                raise InvalidRequest(f"{model.__name__} uses {value.__name__} as {name!r}. Use the class's own name.")
            if value not in seen:
                _collect(value, imports, classes, seen=seen)
        else:
            module, imported = _import_of(model.__name__, name, value)
            imports.setdefault(module, set()).add(imported)


def _import_of(model: str, name: str, value: Any) -> tuple[str, str]:
    """From where (or "" for a plain import) to import what, so that `name` means `value` at a hospital too."""
    if isinstance(value, ModuleType) and _is_library(value.__name__):
        parent, _, last = value.__name__.rpartition(".")
        return parent, last if last == name else f"{last} as {name}"
    if isinstance(value, ModuleType):
        raise InvalidRequest(f"{model} uses {name!r}, which no hospital has. Use math or torch.")
    for module in MODULES:
        if getattr(sys.modules.get(module), name, None) is value and value is not None:
            return module, name
    home = getattr(value, "__module__", None)
    if isinstance(home, str) and _is_library(home) and getattr(sys.modules.get(home), name, None) is value:
        return home, name
    if isinstance(value, FunctionType):
        instead = "Make it a method of the class."
    else:
        instead = "Write its value in the class, as a default argument or a literal."
    raise InvalidRequest(
        f"{model} uses {name!r} from outside the class, which does not travel to a hospital. {instead}"
    )


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in {"torch", "math", "typing", "collections"}


def _outside_names(source: str) -> list[str]:
    """Names that a class's text takes from outside it, in order of name."""
    names: set[str] = set()

    def walk(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            outside = symbol.is_global() or (table.get_type() == "module" and not symbol.is_assigned())
            if symbol.is_referenced() and outside:
                names.add(symbol.get_name())
        for child in table.get_children():
            walk(child)

    walk(symtable.symtable(source, "<model>", "exec"))
    return sorted(names - {"__name__", "__file__"})


def _namespace(model: type) -> dict[str, Any]:
    """What the names outside a class mean to it: its module's, and those of the function that it was defined in."""
    names = dict(vars(sys.modules[model.__module__])) if model.__module__ in sys.modules else {}
    for function in _functions(model):
        names |= function.__globals__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__" and cell.cell_contents is not None:
                names[name] = cell.cell_contents
    for base in model.__mro__[1:]:  # a base class defined inside a function is in no namespace that can be reached
        names.setdefault(base.__name__, base)
    return names


def _functions(model: type) -> Iterator[FunctionType]:
    for value in vars(model).values():
        plain = getattr(value, "__func__", value)
        if isinstance(plain, FunctionType) and plain.__qualname__.startswith(model.__qualname__ + "."):
            yield plain


def _class_nodes(text: str, name: str) -> list[ast.ClassDef]:
    try:
        tree = parsed(text)
    except SyntaxError:  # a notebook cell with magics: the last resort finds it or says so
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]


def _docstring(purpose: str) -> str:
    text = " ".join(purpose.split()).replace("\\", "\\\\").replace('"""', "'''")
    if not text:
        return ""
    text = text[:-1] + "'" if text.endswith('"') else text
    lines = textwrap.wrap(text, WIDTH)
    return f'"""{lines[0]}"""' if len(lines) == 1 else '"""' + "\n".join(lines) + '\n"""'


def _call(function: str, arguments: list[str], values: dict[str, Any]) -> str:
    written = [f"{name}={_literal(value)}" for name, value in values.items()]
    oneline = f"return {function}({', '.join([*arguments, *written])})"
    if len(oneline) <= WIDTH and "\n" not in oneline:
        return oneline
    lines = "".join(f"    {argument},\n" for argument in map(_broken, written))
    return f"return {function}(\n    {', '.join(arguments)},\n{lines})"


def _broken(argument: str) -> str:
    """A list of many columns over several lines, since a line of a request has an end."""
    if len(argument) <= WIDTH or not argument.endswith('"]'):
        return argument
    name, _, inner = argument[:-1].partition("[")
    return f"{name}[\n" + "".join(f"        {item},\n" for item in _items(inner)) + "    ]"


def _roster(declared: SecureAggregation) -> str:
    """Secure aggregation as a dictionary with a hospital a line."""
    facts = declared.as_dict()
    hospitals = "".join(f"            {_literal(row)},\n" for row in facts.pop("hospitals"))
    settings = ", ".join(f"{_literal(name)}: {_literal(value)}" for name, value in facts.items())
    return f'{{\n        {settings},\n        "hospitals": [\n{hospitals}        ],\n    }}'


def _items(inner: str) -> list[str]:
    """Texts of a list, as many to a line as fit."""
    lines = [""]
    for item in re.findall(r'"(?:[^"\\]|\\.)*"', inner):
        if lines[-1] and len(lines[-1]) + len(item) > WIDTH - 12:
            lines.append("")
        lines[-1] += f", {item}" if lines[-1] else item
    return lines


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_literal(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, SecureAggregation):
        return _roster(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _statistics_literals(mechanism: Statistics) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for query in mechanism.queries:
        if query.name == "count":
            values["count"] = True
        elif query.name == "quantiles":
            values.setdefault("quantiles", {})[query.columns[0]] = list(query.ranks)
        elif query.name == "crosstab":
            values.setdefault("crosstab", []).append(tuple(query.columns))
        else:
            values.setdefault(query.name, []).append(query.columns[0])
    values = {
        name: value[0] if isinstance(value, list) and len(value) == 1 and name != "crosstab" else value
        for name, value in values.items()
    }
    values["epsilon"] = mechanism.epsilon
    for name in ("records_per_patient", "bins", "rounds"):
        default = Statistics.__dataclass_fields__[name].default
        if getattr(mechanism, name) != default:
            values[name] = getattr(mechanism, name)
    if mechanism.where:
        values["where"] = mechanism.where
    if mechanism.group_by:
        values["group_by"] = as_literal(mechanism.group_by)
    if mechanism.secure_aggregation is not None:
        values["secure_aggregation"] = mechanism.secure_aggregation
    return values
