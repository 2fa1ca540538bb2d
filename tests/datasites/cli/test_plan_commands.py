"""Reserving for projects, the inbox and a dry run on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from datasites.cli import decision_commands, main, project_commands
from datasites.cli.main import app
from datasites.review.policy import DEFAULT_POLICY
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk
from tests.factories import RESEARCHER

IDS = [str(number) * 32 for number in range(1, 5)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Four requests that wait, a plan of ε = 4 a year, and a project."""
    desk = Desk(tmp_path / "datasite")
    for id, epsilon in zip(IDS, (2.5, 3.5, 0.7, 0.5), strict=True):
        desk.ask(id, epsilon=epsilon)
    plan = "yearly_plans = { patients = { epsilon = 4.0 } }"
    desk.datasite.settings.policy_path.write_text(f"{DEFAULT_POLICY}\n{plan}\n", encoding="utf-8")
    desk.act("make_project", {"name": "Flu", "parties": "General", "ends": "2099-06-30"})
    for module in (decision_commands, project_commands, main):
        monkeypatch.setattr(module, "act", lambda _, action, **arguments: desk.act(action, arguments))
    yield desk
    desk.close()


def run(desk: Desk, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--dir", str(desk.datasite.settings.directory)])


def reserve(desk: Desk, *words: str) -> Result:
    return run(desk, "projects", "reserve", "Flu", "--population", "patients", *words)


def test_the_inbox_says_what_fits_and_how_to_approve_it(desk: Desk) -> None:
    said = run(desk, "inbox").stdout
    assert "patients: ε = 6.000 of 6 is left, 4.000 of it in 20" in said
    assert "22222222: This adds ε=" in said
    assert "remains of the part of 20" in said
    assert "Those that fit, by age (3 fit together and no set of more does):" in said
    assert "  datasite approve 11111111 33333333 44444444\n" in said
    desk.act("reserve_for_project", {"project": "Flu", "population": "patients", "epsilon": 3.5,
                                     "researchers": [RESEARCHER], "with_training": False})  # fmt: skip
    desk.act("file_request", {"request": IDS[1], "project": "Flu"})
    assert "Flu" in run(desk, "inbox", "--population", "patients").stdout


def test_a_dry_run_shows_what_a_choice_leaves_and_approves_nothing(desk: Desk) -> None:
    said = run(desk, "approve", IDS[1], IDS[0], "--dry-run", "--yes").stdout
    lines = [line for line in said.splitlines() if line.lstrip("│ ").startswith(("11111111", "22222222"))]
    assert "22222222" in lines[0]
    assert "yes" in lines[0]
    assert "not with those before" in lines[1]
    assert {line.status for line in desk.datasite.ledger.requests.lines()} == {RequestStatus.CHECKED}
    assert "does not wait" in str(run(desk, "approve", _denied(desk), "--dry-run").exception)


def _denied(desk: Desk) -> str:
    desk.act("deny", {"request": IDS[3], "reason": "no"})
    return IDS[3]


def test_nothing_that_waits_is_said(desk: Desk) -> None:
    for id in IDS:
        desk.act("deny", {"request": id, "reason": "no"})
    assert run(desk, "inbox").stdout == "Nothing waits for a decision.\n"


def test_a_part_is_reserved_changed_shown_and_freed(desk: Desk) -> None:
    done = reserve(desk, "--epsilon", "1.5", "--researcher", RESEARCHER, "--no-training")
    assert done.stdout.replace("\n", " ").strip() == (
        f"Reserved ε = 1.5 of patients for Flu, of which 1.500 is left. {RESEARCHER} may draw on it, for statistics and"
        " evaluations."
    )
    assert "of which 2.000 is left" in reserve(desk, "--epsilon", "2").stdout  # the same people, the same kinds
    (part,) = desk.act("project", {"project": "Flu"})["parts"]
    assert (part["researchers"], part["with_training"]) == ([RESEARCHER], False)
    shown = run(desk, "datasets").stdout
    assert "Reserved for projects" in shown
    assert "statistics, evaluations" in shown
    assert "may add ε = 4.000 and has added 0.000; 4.000 is left. The next year opens on 20" in shown
    done = run(desk, "projects", "free", "Flu", "--population", "patients")
    assert done.stdout == "Freed ε = 2.000 of patients, which Flu had not drawn.\n"
    assert "Reserved for projects" not in run(desk, "datasets").stdout


def test_a_request_shows_this_year_and_its_project(desk: Desk) -> None:
    reserve(desk, "--epsilon", "1.5", "--researcher", RESEARCHER)
    desk.act("file_request", {"request": IDS[2], "project": "Flu"})
    shown = run(desk, "show", IDS[2]).stdout
    assert "may add: ε = 0.000 before, 0.700 after, of 4.000" in shown
    assert "reserved for Flu: ε = 0.000 before, " in shown
    like = run(desk, "what-if", IDS[2]).stdout
    assert "with what is reserved for Flu" in like
    assert "admits 5 of them" in like
