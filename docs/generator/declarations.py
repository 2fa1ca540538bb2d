"""Settings, policy, checks, mechanisms and what a model may be made of, as the code declares them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from datasites import mechanisms as stubs
from datasites import settings as kept
from datasites.review.policy import CHECKS, DEFAULT_POLICY
from datasites.settings import SETTINGS_TEMPLATE, Settings
from policies.graph.engines import LIMITS
from policies.graph.operators import OPERATORS
from policies.privacy import mechanisms as declared
from policies.schema.transformations import FUNCTIONS as FUNCTIONS_OF_TERMS
from policies.source.allowed_names import FUNCTIONS, LAYERS
from policies.source.mechanism_call import FUNCTIONS as CALLS


def settings() -> str:
    """`settings.toml` as `datasite init` writes it, as tables."""
    text = SETTINGS_TEMPLATE.format(name="Hospital A", host="127.0.0.1", port=9400, email="owner@datasite.example")
    said = {name: text for names, text in _docstring(Settings)[1].items() for name in names.split(", ")}
    return _tables(text, "setting", said)


def policy() -> str:
    """`policy.toml` as `datasite init` writes it, as tables."""
    return _tables(DEFAULT_POLICY, "rule", {})


def transformations() -> str:
    """The functions of which terms are made."""
    lines = ["| term | of a column of kind | gives |", "| --- | --- | --- |"]
    for function in FUNCTIONS_OF_TERMS.values():
        lines.append(f"| `{function.usage}` | {', '.join(function.kinds)} | {_cell(function.gives)} |")
    return "\n".join(lines)


def _tables(text: str, what: str, said: Mapping[str, str]) -> str:
    """A commented TOML file: whole comments as paragraphs, each line as a row; a line with a hash before it is off.

    Args:
      said: elsewhere, of names whose line has no comment.
    """
    parts: list[str] = []
    comment: list[str] = []
    rows: list[str] = []
    for line in [*text.splitlines(), "#"]:
        match = _LINE.fullmatch(line)
        if match:
            if comment:
                parts += [" ".join(comment), f"| {what} | as made | meaning |\n| --- | --- | --- |"]
                comment = []
            value = f"off; for example `{match['value']}`" if match["off"] else f"`{match['value']}`"
            rows.append(f"| `{match['name']}` | {value} | {_cell(match['meaning'] or said.get(match['name'], ''))} |")
        elif line.startswith("#"):
            if rows:
                parts[-1] += "\n" + "\n".join(rows)
                rows = []
            comment.append(line.removeprefix("#").strip())
    return "\n\n".join(parts)


_LINE = re.compile(
    r"(?P<off># )?(?P<name>[a-z_]+) = (?P<value>\[.*?\]|\{.*\}|\"[^\"]*\"|'[^']*'|\S+)(?:\s+# (?P<meaning>.*))?"
)


def checks() -> str:
    """The titles of all checks, in the order in which pages list them."""
    return "\n".join(f"* {title}" for title, _ in CHECKS)


def mechanisms() -> str:
    """Each mechanism: what it does, and a table of what its call in a request takes."""
    parts = []
    for name, kind in CALLS.items():
        said, arguments = _docstring(kind)
        lines = [f"### {name}", "", said, "", "| argument | default | meaning |", "| --- | --- | --- |"]
        for parameter in inspect.signature(getattr(stubs, name)).parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                continue
            given = "" if parameter.default is inspect.Parameter.empty else f"`{parameter.default!r}`"
            meaning = arguments.get(parameter.name) or _STATISTICS[parameter.name]
            lines.append(f"| `{parameter.name}` | {given} | {_cell(meaning)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


_STATISTICS = {
    "count": "how many patients there are.",
    "sum": "of a column, or of each in a list of columns.",
    "mean": "of a column, or of each in a list of columns.",
    "variance": "of a column, or of each in a list of columns.",
    "histogram": "of a column, or of each in a list of columns.",
    "quantiles": "at ranks in (0, 1) by column, as `{'age': [0.25, 0.5, 0.75]}`.",
    "missing": "how many records have a value and how many have none, of a column or of each in a list.",
    "describe": "histograms with a cell for what is missing, of a column or of each in a list, up to 500.",
    "crosstab": "of two columns, or of each pair in a list, as `[('sex', 'influenza')]`.",
}


def _cell(text: str) -> str:
    """Text for a table, with the names of lists replaced by what is in them."""

    def values(match: re.Match[str]) -> str:
        known = getattr(declared, match[1], None) or getattr(kept, match[1], None)
        return ", ".join(f"`{value}`" for value in known) if isinstance(known, tuple) else match[0]

    return re.sub(r"`([A-Z_]{2,})`", values, text).replace("|", "\\|")


def layers() -> str:
    """Layers of `torch.nn` and functions of `torch.nn.functional` that a model may use."""
    return f"Layers: {_listed(LAYERS)}.\n\nFunctions of `torch.nn.functional`: {_listed(FUNCTIONS)}."


def operators() -> str:
    """The operators that a graph may use, and where each runs in lanes."""
    rows = [f"| `{name}` | {LIMITS.get(name, 'always')} |" for name in sorted(OPERATORS)]
    return "\n".join([f"{len(OPERATORS)} operators.", "", "| operator | in lanes |", "| --- | --- |", *rows])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _docstring(kind: Any) -> tuple[str, dict[str, str]]:
    """What a docstring says before its arguments, and what it says of each of them."""
    said, _, after = inspect.cleandoc(kind.__doc__).partition("\nArgs:\n")
    block = textwrap.dedent(after.split("\n\n")[0])
    arguments: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if line[:1] != " " and ": " in line:
            name, _, line = line.partition(": ")
        arguments[name] = f"{arguments.get(name, '')} {line.strip()}".strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in said.strip().split("\n\n")), arguments
