"""A small table of public facts that shows itself well in a terminal, in a notebook and in a log.

What hospitals wrote stands in it as text: hidden characters by name, and on a page neither markup nor mathematics.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policies.text import visible

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """Rows with the same keys, in order."""

    rows: Sequence[Mapping[str, Any]]

    @property
    def columns(self) -> list[str]:
        """The rows' keys."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def to_frame(self) -> pd.DataFrame:
        """The rows as a DataFrame, values as they are."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=self.columns)

    def _cells(self) -> list[list[str]]:
        return [[shown(row.get(column, "")) for column in self.columns] for row in self.rows]

    def __str__(self) -> str:
        cells = [[visible(column) for column in self.columns], *self._cells()]
        widths = [max(len(line[index]) for line in cells) for index in range(len(self.columns))]
        numeric = [all(_numeric(row.get(column)) for row in self.rows) for column in self.columns]
        lines = [
            "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in cells
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{_escaped(column)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{_escaped(cell)}</td>" for cell in line) + "</tr>" for line in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _escaped(text: str) -> str:
    """Text for a notebook's page, where a pair of dollar signs would set mathematics and underscores go missing."""
    escaped = html.escape(visible(text))
    return escaped.replace("$", "&#36;<wbr>").replace("_", "&#95;").replace("*", "&#42;").replace("`", "&#96;")


def shown(value: Any) -> str:
    """A value as a table shows it: four significant digits, an empty cell for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else visible(str(value))


def _numeric(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) or value == ""
