"""A device as a process: `python -m researcher.devices.process DIRECTORY` answers a text a line, from its input.

The directory holds `readings.json`, the person's numbers by column as `{"heart_rate": 71}`, which is read whenever a
question is answered, and `ledger.db`, which is made with `--budget`. `--accept FILE` accepts the roster of a question
with shared noise, says in words what that is, and ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies.errors import DatasiteError
from researcher.devices.device import LONGEST_TEXT, Device
from researcher.devices.ledger import FileLedger

READINGS, LEDGER = "readings.json", "ledger.db"


def device_in(directory: str | Path, *, budget: float | None = None) -> Device:
    """The device whose readings and ledger lie in a directory. Raises `InvalidRequest` as `FileLedger` does."""
    place = Path(directory)
    return Device(lambda: _readings(place / READINGS), FileLedger(place / LEDGER, budget=budget))


def main(arguments: list[str] | None = None) -> int:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m researcher.devices.process", description=(__doc__ or "").strip())
    parser.add_argument("directory", type=Path, help="of this device alone, with its readings.json")
    parser.add_argument("--budget", type=float, help="ε of the person's whole budget, where there is no ledger yet")
    parser.add_argument("--accept", type=Path, metavar="FILE", help="accept the roster of the question in this file")
    given = parser.parse_args(arguments)
    try:
        device = device_in(given.directory, budget=given.budget)
        if given.accept is not None:
            print(device.accept(given.accept.read_text(encoding="utf-8")))
            return 0
    except (DatasiteError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    while line := sys.stdin.readline(LONGEST_TEXT + 2):
        sys.stdout.write(device.answer(line) + "\n")
        sys.stdout.flush()
    return 0


def _readings(file: Path) -> Mapping[str, Any]:
    """Without a file, or with one that is none, there are no readings."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
