"""Command lines of both sides: commands whose `--help` says what each option and argument is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Command(TyperCommand):
    """A command whose arguments keep their help: click 8.5 has one of its own, with which typer below 0.21 loses it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        hints = get_type_hints(inspect.unwrap(self.callback), include_extras=True) if self.callback else {}
        for parameter in self.params:
            for declared in getattr(hints.get(str(parameter.name)), "__metadata__", ()):
                parameter.help = declared.help


class Commands(typer.Typer):
    """Commands whose `--help` says what each option and argument is."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[_Function], _Function]:
        """As typer's."""
        return super().command(*arguments, **{"cls": _Command} | options)
