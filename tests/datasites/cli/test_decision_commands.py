"""Approving and denying on the command line: one request or several, each decided by itself, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from datasites.cli import decision_commands
from datasites.cli.main import app
from policies.errors import DatasiteError
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk

FIRST, SECOND, THIRD = "1" * 32, "2" * 32, "3" * 32


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Three requests that wait; commands act on them in this process."""
    desk = Desk(tmp_path / "datasite")
    for id, epsilon in ((FIRST, 0.1), (SECOND, 0.2), (THIRD, 1.5)):
        desk.ask(id, epsilon=epsilon)
    monkeypatch.setattr(decision_commands, "act", lambda _, action, **arguments: desk.act(action, arguments))
    yield desk
    desk.close()


def run(desk: Desk, *words: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, [*words, "--dir", str(desk.datasite.settings.directory)], input=typed)


def statuses(desk: Desk) -> list[RequestStatus]:
    return [desk.datasite.ledger.requests.get(id).status for id in (FIRST, SECOND, THIRD)]


def test_several_requests_are_approved_by_one_command(desk: Desk) -> None:
    done = run(desk, "approve", FIRST, SECOND, "--yes")
    assert done.exit_code == 0
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [FIRST, SECOND]
    assert statuses(desk) == [RequestStatus.APPROVED, RequestStatus.APPROVED, RequestStatus.CHECKED]


def test_one_that_is_refused_keeps_no_other_up_and_fails_the_command(desk: Desk) -> None:
    """One names nothing, and one the population's budget does not hold."""
    large = desk.ask("4" * 32, epsilon=5.9)
    done = run(desk, "approve", "nonsense", FIRST, large, SECOND, "--yes")
    assert done.exit_code == 1
    assert "2 of 4 requests decided." in done.stderr
    assert f"Error: {large}: " in done.stderr
    assert "Error: nonsense: " in done.stderr
    assert statuses(desk) == [RequestStatus.APPROVED, RequestStatus.APPROVED, RequestStatus.CHECKED]


def test_each_is_shown_and_confirmed_by_itself(desk: Desk) -> None:
    done = run(desk, "approve", FIRST, SECOND, typed="n\ny\n")
    assert done.exit_code == 1
    assert f"{FIRST}: Nothing was done." in done.stderr
    assert statuses(desk)[:2] == [RequestStatus.CHECKED, RequestStatus.APPROVED]


def test_the_name_of_a_large_one_is_typed_also_among_others(desk: Desk) -> None:
    name = desk.datasite.ledger.requests.get(THIRD).function
    done = run(desk, "approve", THIRD, FIRST, typed="y\nanother name\nn\n")
    assert f"Type its name, {name}" in done.output
    assert statuses(desk) == [RequestStatus.CHECKED] * 3
    done = run(desk, "approve", THIRD, SECOND, typed=f"y\n{name}\nn\n")
    assert statuses(desk) == [RequestStatus.CHECKED, RequestStatus.CHECKED, RequestStatus.APPROVED]


def test_an_interruption_ends_the_command_and_says_what_stays(desk: Desk) -> None:
    done = run(desk, "approve", FIRST, SECOND, THIRD, typed="y\n")  # and the end of what is typed
    assert done.exit_code == 1
    assert f"Interrupted at {SECOND}. What was decided before stays" in done.stderr
    assert statuses(desk) == [RequestStatus.APPROVED, RequestStatus.CHECKED, RequestStatus.CHECKED]


def test_one_alone_raises_what_it_raised_before(desk: Desk) -> None:
    assert run(desk, "approve", FIRST, FIRST, "--yes").exit_code == 0
    again = run(desk, "approve", FIRST, "--yes")
    assert isinstance(again.exception, DatasiteError)


def test_several_are_denied_with_one_reason(desk: Desk) -> None:
    done = run(desk, "deny", FIRST, SECOND, "--reason", "Not now.")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"Denied {id}." for id in (FIRST, SECOND)]
    assert statuses(desk)[:2] == [RequestStatus.DENIED, RequestStatus.DENIED]
    comments: Any = desk.datasite.ledger.requests.comments(SECOND)
    assert comments[-1].text == "Not now."
