"""`datasite serve` that tells how many rows were published, in one place after another.

    python serve_with_leaks.py DIRECTORY

Only a test's program: each leak is one that a careless change could bring, and each must be found where it is.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasites.actions import for_researchers, registry
from datasites.console import app as console
from datasites.review import rounds
from datasites.serve import serve
from datasites.vault import encoding, mocks
from policies.errors import WeightsRefused

rows = 0  # of the table that was published last


def plant() -> None:
    """Every leak at once; they do not meet."""
    _remember_rows()
    _in_public_sizes()
    _in_quotes_and_statuses()
    _in_errors()
    _in_answers()
    _in_headers()
    _in_the_log()
    _for_owners()


def _remember_rows() -> None:
    encode = encoding.encode

    def remembering(*arguments: Any, **named: Any) -> Any:
        global rows
        matrix = encode(*arguments, **named)
        rows = len(matrix)
        return matrix

    encoding.encode = remembering

    def mock(schema: Any, count: int = 200, *, seed: int = 0) -> Any:
        return drawn(schema, count, seed=rows)

    drawn, mocks.draw_mock = mocks.draw_mock, mock


def _in_public_sizes() -> None:
    describe = for_researchers.ForResearchers.describe

    def with_size(self: Any, researcher: str) -> Any:
        told = describe(self, researcher)
        for each in told["datasets"]:
            each["training_patients"] += rows
        return told

    for_researchers.ForResearchers.describe = with_size  # type: ignore[method-assign]


def _in_quotes_and_statuses() -> None:
    quote, status = for_researchers.ForResearchers.quote, for_researchers.ForResearchers.status

    def with_hint(self: Any, *arguments: Any) -> Any:
        told = quote(self, *arguments)
        return {**told, "findings": [*told["findings"], {"hint": f"fits {rows} rows"}]}

    def with_text(self: Any, *arguments: Any) -> Any:
        told = status(self, *arguments)
        return {**told, "text": told["text"] + " " * (rows % 97)}  # invisible, and seen in the size

    for_researchers.ForResearchers.quote, for_researchers.ForResearchers.status = with_hint, with_text  # type: ignore[method-assign]


def _in_errors() -> None:
    def refusing(plan: Any, weights: Any) -> None:
        try:
            check(plan, weights)
        except WeightsRefused as error:
            raise WeightsRefused(f"{error} Seen beside {rows} rows.") from None

    check, rounds.check_weights = rounds.check_weights, refusing


def _in_answers() -> None:
    released, certify = rounds.Rounds._released, rounds.make_certificate

    def padded(self: Any, *arguments: Any) -> Any:
        told = released(self, *arguments)
        for name in told["release"]:
            told["release"][name] = np.append(told["release"][name], np.zeros(rows % 97))
        return told

    def with_software(**named: Any) -> Any:
        made = certify(**named)
        made["software"]["rows"] = str(rows)
        return made

    rounds.Rounds._released, rounds.make_certificate = padded, with_software  # type: ignore[method-assign]


def _in_headers() -> None:
    class Headers(console._Headers):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            console.HEADERS["x-weight"] = str(rows)
            await super().__call__(scope, receive, send)

    console._Headers = Headers  # type: ignore[misc]


def _in_the_log() -> None:
    read = rounds.Rounds._read_rows

    def logging(self: Any, version: str) -> Any:
        table = read(self, version)
        rounds.logger.warning("Handed over %d rows.", len(table))
        return table

    rounds.Rounds._read_rows = logging  # type: ignore[method-assign]


def _for_owners() -> None:
    registered = registry.actions()
    dataset, listed = registered["dataset"].function, registered["datasets"].function

    def with_rows(*arguments: Any, **named: Any) -> Any:
        told = dataset(*arguments, **named)
        return {**told, "patients": told["patients"] + rows}

    def with_sizes(*arguments: Any, **named: Any) -> Any:
        told = listed(*arguments, **named)
        for each in told["datasets"]:
            each["patients"] += rows
        return told

    for name, leaking in (("dataset", with_rows), ("datasets", with_sizes)):
        registry._REGISTERED[name] = replace(registered[name], function=leaking)


if __name__ == "__main__":
    os.umask(0o077)
    plant()
    serve(Path(sys.argv[1]))
