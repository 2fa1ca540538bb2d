"""`datasite serve` that kills itself (-9) before or after the n-th call of one of the ledger's methods.

    python serve_with_fault.py DIRECTORY        the fault stands in DIRECTORY/fault, as "before settle_run 1"

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
from datasites.serve import serve


def plant(when: str, method: str, count: int) -> None:
    """Replace `Ledger.method` by one that ends this process around its `count`-th call."""
    inner, calls = getattr(Ledger, method), [0]

    @functools.wraps(inner)
    def dying(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*arguments, **named)
        if calls[0] == count and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(Ledger, method, dying)


if __name__ == "__main__":
    os.umask(0o077)
    directory = Path(sys.argv[1])
    when, method, count = (directory / "fault").read_text().split()
    plant(when, method, int(count))
    serve(directory)
