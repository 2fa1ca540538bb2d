"""In which order the workers of a parallel run take the tests: a module stays on one worker, the longest come first."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Modules that share a fixture which is dear to set up; together they are one piece of work.
SHARING = ("tests/attacks/guard/",)

# What takes more than 25 seconds beside another worker, by the seconds; all else follows in the order of its folders.
LONGEST = {
    "tests/proof/test_faults.py": 870,
    "tests/e2e/test_notebooks.py": 290,
    "tests/e2e/test_late_releases.py": 215,
    "tests/e2e/test_elsewhere.py": 195,
    "tests/attacks/runner/test_pace.py": 190,
    "tests/attacks/test_noninterference.py": 190,
    "tests/proof/test_lanes.py": 180,
    "tests/examples/test_examples.py": 170,
    "tests/datasites/jobs/test_warming.py": 160,
    "tests/crash/test_datasite_kills.py": 160,
    "tests/browser/test_pages.py": 150,
    "tests/examples/test_images_and_signals.py": 145,
    "tests/researcher/test_secureml.py": 140,
    "tests/researcher/devices/test_node.py": 120,
    "tests/idioms/test_idioms.py": 115,
    "tests/e2e/test_private_rows.py": 115,
    "tests/e2e/test_secure_aggregation.py": 110,
    "tests/researcher/test_strategies.py": 110,
    "tests/e2e/test_shared_noise.py": 105,
    "tests/attacks/guard/": 100,
    "tests/e2e/test_start.py": 85,
    "tests/e2e/test_dial_out.py": 75,
    "tests/attacks/hospitals/test_hospitals.py": 75,
    "tests/attacks/test_noninterference_in_sums.py": 75,
    "tests/attacks/test_models.py": 75,
    "tests/attacks/test_noninterference_elsewhere.py": 70,
    "tests/docs/test_docs.py": 60,
    "tests/crash/test_ledger_kills.py": 60,
    "tests/datasites/engine/lanes/test_machine_code.py": 60,
    "tests/examples/test_notebooks.py": 55,
    "tests/browser/test_decisions.py": 50,
    "tests/e2e/test_model_parts.py": 45,
    "tests/browser/test_reports.py": 35,
    "tests/proof/test_power.py": 35,
    "tests/attacks/relays/test_streams.py": 35,
    "tests/datasites/engine/lanes/test_copies.py": 35,
    "tests/e2e/test_compression.py": 35,
    "tests/policies/privacy/test_risk.py": 35,
    "tests/examples/test_cookbook.py": 30,
    "tests/e2e/test_stock_clients.py": 30,
    "tests/datasites/operations/test_backup.py": 30,
    "tests/researcher/devices/test_team_sums.py": 30,
    "tests/e2e/test_models.py": 30,
    "tests/attacks/test_corpus.py": 25,
    "tests/e2e/test_analyses.py": 25,
    "tests/researcher/test_transport.py": 25,
    "tests/researcher/test_kills.py": 25,
    "tests/datasites/engine/lanes/test_windows.py": 25,
    "tests/attacks/runner/test_jobs.py": 25,
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
