"""A whole directory that 0.1.0 made, served by this software: what it held is there, and its studies go on.

`directory_0_1_0.tar.xz` was made by 0.1.0's own code: the table of `tests.factories` published, two researchers, a
request of statistics released, a training with its first round released, and a third request that waits. Its keys guard
nothing.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.release.certificates import verify
from tests.e2e.stock import call, call_until_done, login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, initial_weights, statistics_source

MADE = Path(__file__).with_name("directory_0_1_0.tar.xz")
COUNTS, TRAINING, WAITING = "flu_counts", "flu_round", "flu_waits"
ENTRIES, HEAD = 17, "ba34610fafdabf53e35acda702c850993c49cfdb9ccd6f69fe1e807b8d8463dc"
"""What 0.1.0 itself said of this ledger."""


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[DatasiteProcess]:
    """Today's `datasite serve` on a copy."""
    directory = tmp_path_factory.mktemp("old") / "datasite"
    with tarfile.open(MADE) as archive:
        archive.extractall(directory, filter="data")
    process = DatasiteProcess(directory, directory, jobs=jobs).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def researcher(upgraded: DatasiteProcess) -> Any:
    return login(upgraded.url, RESEARCHER, PASSWORD)


def requests(process: DatasiteProcess) -> dict[str, dict[str, Any]]:
    """Its requests by the name of their function."""
    return {request["function"]: request for request in process.json("requests")}


def test_its_ledger_verifies_as_0_1_0_verified_it(upgraded: DatasiteProcess) -> None:
    assert f"{ENTRIES} entries, head {HEAD}" in upgraded.cli("ledger", "--verify").stdout


def test_its_requests_releases_and_certificates_are_shown(upgraded: DatasiteProcess) -> None:
    held = requests(upgraded)
    assert {name: request["status"] for name, request in held.items()} == {
        COUNTS: "completed",
        TRAINING: "approved",
        WAITING: "checked",
    }
    assert len(upgraded.json("releases")) == 2
    for name in (COUNTS, TRAINING):
        shown = upgraded.json("show", held[name]["id"])
        assert f"def {name}(" in shown["source"]
        certificate = verify(upgraded.cli("certificate", held[name]["id"], "1").stdout)
        assert (certificate["dataset"], certificate["datasite"]) == ("flu", "Test Hospital")


def test_what_was_released_is_fetched_again_at_no_cost(upgraded: DatasiteProcess, researcher: Any) -> None:
    before = upgraded.json("ledger")
    assert call(researcher, TRAINING, weights=initial_weights(), round=1)["status"] == "released"
    assert upgraded.json("ledger") == before


def test_its_training_goes_on_where_it_was(upgraded: DatasiteProcess, researcher: Any) -> None:
    answer = call_until_done(researcher, TRAINING, weights=initial_weights(), round=2)
    assert (answer["status"], answer["round"]) == ("released", 2)


def test_a_request_that_waited_is_approved_and_runs(upgraded: DatasiteProcess, researcher: Any) -> None:
    upgraded.cli("approve", requests(upgraded)[WAITING]["id"], "--yes")
    assert call_until_done(researcher, WAITING, weights=initial_weights())["status"] == "released"


def test_new_requests_are_submitted_to_it_and_its_ledger_still_verifies(
    upgraded: DatasiteProcess, researcher: Any
) -> None:
    submit(researcher, statistics_source("flu_new"), weights=False)
    upgraded.approve_all()
    assert call_until_done(researcher, "flu_new")["status"] == "released"
    assert "The ledger verifies" in upgraded.cli("ledger", "--verify").stdout
