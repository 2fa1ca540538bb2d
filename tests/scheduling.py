"""In which order the workers of a parallel run take the tests: a module stays on one worker, the longest come first."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Modules that share a fixture which is dear to set up; together they are one piece of work.
SHARING = ("tests/attacks/guard/",)

# What takes more than five seconds alone on one core, by the seconds; all else follows in the order of its folders.
LONGEST = {
    "tests/proof/test_faults.py": 97,
    "tests/crash/test_datasite_kills.py": 80,
    "tests/attacks/test_noninterference.py": 60,
    "tests/attacks/test_corpus.py": 45,
    "tests/browser/test_pages.py": 40,
    "tests/browser/test_decisions.py": 40,
    "tests/attacks/guard/": 40,
    "tests/crash/test_ledger_kills.py": 37,
    "tests/attacks/test_models.py": 29,
    "tests/attacks/test_noninterference_elsewhere.py": 20,
}


def piece_of(nodeid: str) -> str:
    """The piece of work that a test belongs to: its module, or the folder whose modules share a fixture."""
    module = nodeid.split("::", 1)[0]
    return next((folder for folder in SHARING if module.startswith(folder)), module)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by the length of their piece, and else leave them as they are."""
    items.sort(key=lambda item: -LONGEST.get(piece_of(item.nodeid), 0))


class ByPiece(LoadFileScheduling):  # type: ignore[misc]
    """xdist's distribution by file, with our pieces, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # it would put the piece of the most tests first
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)
