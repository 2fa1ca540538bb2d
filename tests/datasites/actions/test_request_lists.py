"""Lists of requests say what their plans say, and read none of them: they cost little at ten thousand requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.actions.for_researchers import ForResearchers
from datasites.actions.requests import overview
from datasites.ledger import records
from datasites.ledger.records import CodeRequestRecord
from policies.errors import InvalidRequest
from policies.source.statuses import RequestStatus
from tests.browser.desk import VERSION, Desk
from tests.factories import RESEARCHER, statistics_source

OTHER = "other@university.example"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def fill(desk: Desk) -> None:
    """Requests of two researchers: some wait, one is denied, one approved, one has no plan."""
    for number in range(6):
        desk.ask(f"{number}a0b1c2d", epsilon=0.1 * (number + 1), researcher=(RESEARCHER, OTHER)[number % 2])
    desk.act("deny", {"request": "1a0b1c2d", "reason": "No."})
    desk.act("approve", {"request": "2a0b1c2d"})
    bare = CodeRequestRecord(
        id="9a0b1c2d", function="bare", researcher=RESEARCHER, dataset="flu", version=VERSION,
        population=desk.schema.population, source="x",
    )  # fmt: skip
    desk.datasite.ledger.requests.submit(bare)


@pytest.fixture
def no_plan_is_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(desk)

    def parsed(text: str) -> Any:
        raise AssertionError("a plan was read")

    monkeypatch.setattr(records, "parsed_plan", parsed)


def test_lines_say_what_the_plans_say(desk: Desk) -> None:
    fill(desk)
    listed = desk.act("requests", {})
    every = desk.datasite.ledger.requests.list()
    waiting = [record for record in every if record.status is RequestStatus.CHECKED]
    others = [record for record in every if record.status is not RequestStatus.CHECKED]
    assert listed == [overview(record) for record in (*reversed(waiting), *reversed(others))]
    assert [list(line) for line in listed] == [list(overview(record)) for record in (*waiting, *others)]
    denied = [record for record in every if record.status is RequestStatus.DENIED]
    assert desk.act("requests", {"status": "denied"}) == [overview(record) for record in denied]
    own = [overview(record) for record in every if record.researcher == RESEARCHER]
    assert ForResearchers(desk.datasite).requests_of(RESEARCHER) == own


@pytest.mark.usefixtures("no_plan_is_read")
def test_no_plan_is_read_for_a_list(desk: Desk) -> None:
    assert len(desk.act("requests", {})) == 7
    assert len(ForResearchers(desk.datasite).requests_of(RESEARCHER)) == 4
    assert desk.datasite.submissions.find("2a0b").id == "2a0b1c2d"


def test_a_long_list_ends_with_the_oldest_that_are_decided(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(desk)
    lines = desk.datasite.ledger.requests.lines(most=5)
    assert [line.id[0] for line in lines] == ["5", "4", "3", "0", "9"]
    monkeypatch.setattr("datasites.actions.for_researchers.MOST_LISTED", 2)
    assert [line["id"][0] for line in ForResearchers(desk.datasite).requests_of(RESEARCHER)] == ["0", "4"]


@pytest.mark.parametrize(("prefix", "what"), [("2a0", "no request"), ("zzzz", "no request"), ("", "no request")])
def test_a_beginning_that_names_no_request_is_refused(desk: Desk, prefix: str, what: str) -> None:
    fill(desk)
    with pytest.raises(InvalidRequest, match=what):
        desk.datasite.submissions.find(prefix)


@pytest.mark.parametrize("name", ["%", "_", "2a0_", "2A0B"])
def test_a_beginning_is_no_pattern(desk: Desk, name: str) -> None:
    fill(desk)
    with pytest.raises(InvalidRequest):
        desk.datasite.submissions.find(name.ljust(4, "%"))


def test_a_beginning_that_names_several_is_refused(desk: Desk) -> None:
    desk.ask("abcd0001")
    desk.ask("abcd0002", epsilon=0.3)
    with pytest.raises(InvalidRequest, match="2 requests"):
        desk.datasite.submissions.find("abcd")


def test_the_same_source_is_known_by_researcher_and_version(desk: Desk) -> None:
    desk.ask("abcd0001")
    ledger = desk.datasite.ledger
    source = ledger.requests.get("abcd0001").source
    assert ledger.requests.same_source(RESEARCHER, VERSION, source) is None  # PySyft does not know it
    again = CodeRequestRecord(
        id="abcd0002", function="flu_counts", researcher=RESEARCHER, dataset="flu", version=VERSION,
        population=desk.schema.population, source=statistics_source(epsilon=0.4),
    ).with_syft({"code": "c", "request": "r"})  # fmt: skip
    ledger.requests.submit(again)
    found = ledger.requests.same_source(RESEARCHER, VERSION, again.source)
    assert found is not None
    assert found.id == "abcd0002"
    assert ledger.requests.same_source(OTHER, VERSION, again.source) is None
    assert ledger.requests.same_source(RESEARCHER, "other", again.source) is None


def test_a_source_is_compared_with_the_one_that_was_approved_before(desk: Desk) -> None:
    for number, epsilon in enumerate((0.1, 0.2, 0.3)):
        desk.ask(f"abcd000{number}", epsilon=epsilon)
    assert desk.act("show", {"request": "abcd0002"})["difference"] == []
    desk.act("approve", {"request": "abcd0000"})
    desk.act("approve", {"request": "abcd0001"})
    difference = "\n".join(desk.act("show", {"request": "abcd0002"})["difference"])
    assert "epsilon=0.2" in difference
    assert "epsilon=0.1" not in difference
