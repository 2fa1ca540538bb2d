"""The reference of both command lines, read from the commands themselves: usage, help, arguments and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from datasites.cli.main import app as datasite_app
from researcher.__main__ import app as researcher_app

SHARED = ("--help", "--dir")  # said once, above all commands


def datasite() -> str:
    """Every command of `datasite`."""
    return _reference("datasite", datasite_app)


def researcher() -> str:
    """Every command of `researcher`."""
    return _reference("researcher", researcher_app)


def every_command(name: str, app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Each command with its full name, as `datasite researchers add`; groups come before what is in them."""
    yield from _walk(name, get_command(app))


def options_of(command: Any) -> set[str]:
    """Every spelling of every option of a command."""
    return {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _walk(f"{name} {word}", inner)


def _reference(name: str, app: typer.Typer) -> str:
    lines = []
    for full, command in every_command(name, app):
        if hasattr(command, "commands"):
            continue
        lines += [f"### {full}", "", _text(command.help), "", "```", _usage(full, command), "```", ""]
        described = [_parameter(parameter) for parameter in command.params if not _is_shared(parameter)]
        lines += [*described, ""] if described else []
    return "\n".join(lines)


def _usage(name: str, command: Any) -> str:
    words = [name]
    for parameter in sorted(command.params, key=lambda parameter: parameter.param_type_name != "argument"):
        if not _is_shared(parameter):
            words.append(_piece(parameter))
    return " ".join(words)


def _piece(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _name(parameter)
    value = "" if parameter.is_flag else f" {_value(parameter)}"
    return f"{parameter.opts[0]}{value}" if parameter.required else f"[{parameter.opts[0]}{value}]"


def _parameter(parameter: Any) -> str:
    names = _name(parameter) if parameter.param_type_name == "argument" else "`, `".join(parameter.opts)
    text = [_text(parameter.help)] if parameter.help else []
    if parameter.default not in (None, "", False, [], ()) and not parameter.required and parameter.show_default:
        text.append(f"Default: `{parameter.default}`.")
    return f"* `{names}`: {' '.join(text)}" if text else f"* `{names}`"


def _name(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _value(parameter: Any) -> str:
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    return str(parameter.metavar or parameter.type.name.upper())


def _is_shared(parameter: Any) -> bool:
    return any(spelling in SHARED for spelling in parameter.opts)


def _text(text: str | None) -> str:
    """Help as one paragraph each; typer keeps the line breaks of a docstring."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))
