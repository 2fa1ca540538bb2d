"""`datasite serve` that kills itself (-9) before or after the n-th call of a method of its ledger.

    python serve_with_fault.py DIRECTORY        the fault stands in DIRECTORY/fault, as "before Runs.settle 1"

Only a test's program: nothing in the datasite itself can be told to crash.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from datasites.ledger.ledger import Ledger
from datasites.ledger.requests import Requests
from datasites.ledger.runs import Runs
from datasites.serve import serve


def plant(when: str, where: str, count: int) -> None:
    """Replace a method, as `Runs.settle`, by one that ends this process around its `count`-th call."""
    part, _, method = where.partition(".")
    owner = {"Ledger": Ledger, "Requests": Requests, "Runs": Runs}[part]
    inner, calls = getattr(owner, method), [0]

    @functools.wraps(inner)
    def dying(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*arguments, **named)
        if calls[0] == count and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, dying)


if __name__ == "__main__":
    os.umask(0o077)
    directory = Path(sys.argv[1])
    when, where, count = (directory / "fault").read_text().split()
    plant(when, where, int(count))
    serve(directory)
