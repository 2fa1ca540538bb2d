"""What honest researchers write: every file of `corpus/honest/` must be accepted, and every network must train.

A file begins with what it is and, for a network, the shape of one record; then classes, the last of them the model, or
a whole request (`request_*.py`).
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "corpus" / "honest"
SEQUENCE = (5, 2)


def module(init: str, forward: str, *, name: str = "Model") -> str:
    """A class with one assignment a line in `__init__`, and the given lines as forward; the last is returned."""
    *lines, last = forward.strip().splitlines()
    body = "\n".join(f"        {line}" for line in [*lines, f"return {last.strip()}"])
    made = "\n".join(f"        self.{line.strip()}" for line in init.strip().splitlines())
    return (
        f"class {name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n{made}\n\n"
        f"    def forward(self, x):\n{body}\n"
    )


def _network(path: Path) -> tuple[tuple[int, ...], str]:
    found = re.match(r"# is: .+\n# shape: ([0-9 ]+)\n([\s\S]+)", path.read_text())
    assert found is not None, path
    return tuple(int(each) for each in found[1].split()), found[2]


# Name: (record's shape, source of the classes).
HONEST = {path.stem: _network(path) for path in sorted(FOLDER.glob("*.py")) if not path.stem.startswith("request_")}
REQUESTS = {path.stem: path.read_text().partition("\n")[2] for path in sorted(FOLDER.glob("request_*.py"))}
