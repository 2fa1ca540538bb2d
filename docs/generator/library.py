"""The researcher's library as its docstrings tell it, and a schema with every key that there is."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import researcher
from policies.schema import as_written, schemas, tensors
from researcher.strategies import NOT_OFFERED, STRATEGIES


def library() -> str:
    """Every public name of `researcher`, with its public methods and properties."""
    lines = []
    for name in sorted(researcher.__all__):
        value = getattr(researcher, name)
        called = "" if isinstance(value, type) else _parameters(value)
        lines += [f"### researcher.{name}{called}", "", _first_line(value), ""]
        members = [f"* `{member}`: {said}" for member, said in _members(value)] if isinstance(value, type) else []
        lines += [*members, ""] if members else []
    return "\n".join(lines)


def strategies() -> str:
    """Every strategy of `flwr.serverapp.strategy`: what it does here, or why it cannot work."""
    rows = ["| strategy | with the releases of a round |", "| --- | --- |"]
    rows += [f"| `{name}` | {said} |" for name, said in STRATEGIES.items()]
    return "\n".join([*rows, *(f"| `{name}` | not offered: {why} |" for name, why in NOT_OFFERED.items())])


def schema() -> str:
    """The examples of a `schema.toml` in docstrings: a whole one, then what may be added."""
    whole, added, beside = (_example(module) for module in (schemas, as_written, tensors))
    return (
        f"```toml\n{whole}\n```\n\nHow the table writes it, where it does so otherwise; what it may look like:\n\n"
        f"```toml\n{added}\n```\n\nImages and signals beside the columns:\n\n```toml\n{beside}\n```"
    )


def _example(module: ModuleType) -> str:
    indented = [line for line in (inspect.getdoc(module) or "").splitlines() if not line or line.startswith("    ")]
    return textwrap.dedent("\n".join(indented)).strip()


def _members(kind: type) -> Iterator[tuple[str, str]]:
    """Public methods and properties, in the order in which they are written, those of a base class of ours first."""
    seen: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] in ("researcher", "policies"):
            seen |= vars(base)
    for name, value in seen.items():
        if name.startswith("_"):
            continue
        read = getattr(value, "fget", None) or getattr(value, "func", None)  # a property, or a cached one
        if read is not None and read.__doc__:
            yield name, _first_line(read)
        elif inspect.isfunction(value) and value.__doc__:
            yield f"{name}{_parameters(value)}", _first_line(value)


def _parameters(function: Any) -> str:
    """The names of a function's parameters, those with a default as `name=...`."""
    words = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            stars = "**" if parameter.kind is parameter.VAR_KEYWORD else stars
            words.append(f"{stars}{parameter.name}{'' if parameter.default is parameter.empty else '=...'}")
    return f"({', '.join(words)})"


def _first_line(value: Any) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
