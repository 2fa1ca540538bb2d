"""In which order the workers of a parallel run take the tests: a module stays on one worker, the longest come first."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Modules that share a fixture which is dear to set up; together they are one piece of work.
SHARING = ("tests/attacks/guard/",)

# What takes more than five seconds alone on one core, by the seconds; all else follows in the order of its folders.
LONGEST = {
    "tests/proof/test_faults.py": 75,
    "tests/crash/test_datasite_kills.py": 70,
    "tests/attacks/test_noninterference.py": 50,
    "tests/attacks/guard/": 45,
    "tests/attacks/test_corpus.py": 40,
    "tests/browser/test_pages.py": 35,
    "tests/browser/test_decisions.py": 30,
    "tests/attacks/test_models.py": 30,
    "tests/e2e/test_stock_clients.py": 25,
    "tests/attacks/runner/test_jobs.py": 18,
    "tests/attacks/test_noninterference_elsewhere.py": 15,
    "tests/datasites/operations/test_backup.py": 15,
    "tests/browser/test_news.py": 13,
    "tests/compose/test_notebook.py": 13,
    "tests/crash/test_ledger_kills.py": 12,
    "tests/proof/test_fit.py": 12,
    "tests/datasites/actions/test_privacy_audit.py": 10,
    "tests/e2e/test_models.py": 10,
    "tests/attacks/runner/test_isolation.py": 9,
    "tests/attacks/runner/test_places.py": 8,
    "tests/browser/test_trials.py": 8,
    "tests/datasites/engine/test_statistics.py": 8,
    "tests/policies/graph/test_exporter.py": 7,
    "tests/attacks/runner/test_pace.py": 6,
    "tests/datasites/engine/test_privacy_audit.py": 6,
    "tests/e2e/test_owner.py": 6,
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

    def remove_node(self, node: Any) -> str | None:
        """Give what a crashed worker had not done to the others.

        xdist would give out its finished pieces again as well: a worker that gets one has no test to run, asks for no
        more, and the run never ends.
        """
        given = self.assigned_work[node]
        self.assigned_work[node] = {piece: tests for piece, tests in given.items() if not all(tests.values())}
        return super().remove_node(node)  # type: ignore[no-any-return]

    def schedule(self) -> None:
        """Give out work, also to a worker that takes a crashed one's place: it begins when it has two pieces."""
        super().schedule()
        for node in self.nodes:
            self._reschedule(node)

    def _split_scope(self, nodeid: str) -> str:
        return piece_of(nodeid)
