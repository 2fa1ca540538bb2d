"""Progress of a study: a live table in a terminal, plain lines elsewhere, nothing where it is turned off.

Names and reasons are hospitals' words: shown as they are, never as markup, hidden characters by name.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from policies.text import visible


class Progress:
    """Says what happens, by hospital.

    Args:
      shown: False for silence.
      stream: where lines go; standard error unless told.
    """

    def __init__(self, *, shown: bool = True, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stderr, quiet=not shown, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._title = ""
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """One line, for people."""
        self._console.print(Text(visible(line)))

    @contextmanager
    def running(self, title: str) -> Iterator[None]:
        """While this is held, a terminal shows one table: a row per hospital, a column per round."""
        self._title, self._rows = title, {}
        if not self._console.is_terminal or self._console.quiet:
            yield
            return
        with Live(self._table(), console=self._console, refresh_per_second=8, transient=False) as self._live:
            try:
                yield
            finally:
                self._live.update(self._table(), refresh=True)
        self._live = None

    def hospital(self, what: str, hospital: str, state: str) -> None:
        """`hospital` is now at `state` in `what`, as "round 2/5"."""
        with self._lock:
            self._rows.setdefault(hospital, {})[what] = state
            if self._live:
                self._live.update(self._table())
            elif state != "asked":
                self.say(f"{what}  {hospital}: {state}")

    def _table(self) -> Table:
        table = Table(title=_text(self._title), title_justify="left")
        table.add_column("hospital")
        columns = list(dict.fromkeys(what for row in self._rows.values() for what in row))
        for what in columns:
            table.add_column(_text(what), overflow="fold")
        for hospital in sorted(self._rows):
            table.add_row(*map(_text, [hospital, *(self._rows[hospital].get(what, "") for what in columns)]))
        return table


def _text(words: str) -> Text:
    return Text(visible(words))
