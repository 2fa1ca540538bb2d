"""Writes the generated parts of the documents from the code: `make docs`. Where a part lies in a file, two marks say.

    <!-- generated: NAME -->      (written anew each time; what a person writes here is lost)
    <!-- end of NAME -->

`SECTIONS` is every part by its name. A test fails where a file holds something else than the code says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generator import commands, declarations, library, rooms, states

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent

SECTIONS: Mapping[str, Callable[[], str]] = {
    "picture of the hospital's side": lambda: rooms.picture(ROOT, "datasites"),
    "picture of policies": lambda: rooms.picture(ROOT, "policies"),
    "rooms": lambda: rooms.table(ROOT),
    "modules": lambda: rooms.modules(ROOT),
    "states of a request": states.requests,
    "states of a run": states.runs,
    "commands of datasite": commands.datasite,
    "commands of researcher": commands.researcher,
    "settings": declarations.settings,
    "policy": declarations.policy,
    "checks": declarations.checks,
    "schema": library.schema,
    "transformations": declarations.transformations,
    "library": library.library,
    "strategies": library.strategies,
    "mechanisms": declarations.mechanisms,
    "layers": declarations.layers,
    "operators": declarations.operators,
}
_PART = re.compile(r"<!-- generated: (?P<name>[^>]+?) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)


def written(text: str, sections: Mapping[str, Callable[[], str]] = SECTIONS) -> str:
    """A document with its generated parts as the code has them now. Raises `KeyError` for a part that nobody makes."""

    def part(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- generated: {name} -->\n{sections[name]().strip()}\n<!-- end of {name} -->"

    return _PART.sub(part, text)


def documents() -> list[Path]:
    """Every document below docs/."""
    return sorted(DOCS.rglob("*.md"))
