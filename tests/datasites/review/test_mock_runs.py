"""Requests on mock rows: what is sent, what is believed of the answer, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.jobs.pool import Answer
from datasites.review.mock_runs import KINDS, MockRuns, _checked, sentences
from policies.errors import Unavailable, WrongStatus
from policies.graph.engines import LONGEST_REASON
from tests.browser.desk import Desk

SAID: dict[str, Any] = {
    "rows": 400, "seconds": 1.25, "memory": 200_000_000, "finite": True, "answers": None, "steps": 5,
    "steps_of_round": 5, "parameters": 8, "moved": True, "loss_before": 0.7, "loss_after": 0.65,
    "lanes": None, "slower": None, "once": None,
}  # fmt: skip


class Runner:
    """Answers with what a test gives, and keeps what it was handed."""

    def __init__(self, message: dict[str, Any] | Exception) -> None:
        self.message, self.handed = message, []  # type: tuple[dict[str, Any] | Exception, list[dict[str, Any]]]

    def run(self, kind: str, job: dict[str, Any], **more: Any) -> Answer:
        self.handed.append({"kind": kind, "job": job, **more})
        if isinstance(self.message, Exception):
            raise self.message
        return Answer(self.message, b"", {})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    desk.ask("request-1")
    yield desk
    desk.close()


def ran(desk: Desk, message: dict[str, Any] | Exception) -> tuple[dict[str, Any], Runner]:
    runner = Runner(message)
    runs = MockRuns(desk.datasite.settings, desk.datasite.ledger, runner)  # type: ignore[arg-type]
    record = desk.datasite.ledger.requests.get("request-1")
    answer = runs.run(record)
    assert runs.of(record.id) == answer  # as a page reads it later
    return answer, runner


def test_no_row_is_handed_over(desk: Desk) -> None:
    _, runner = ran(desk, {"event": "done", "facts": SAID})
    (handed,) = runner.handed
    assert handed["job"]["job"] == "try"
    assert handed.get("rows") is None
    assert handed.get("before_rows") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [("rows", "400"), ("rows", True), ("seconds", math.nan), ("loss_after", math.inf), ("finite", 1), ("memory", [1])],
)
def test_a_figure_of_another_kind_is_not_believed(desk: Desk, name: str, said: Any) -> None:
    facts = ran(desk, {"event": "done", "facts": {**SAID, name: said, "more": "text of the model's"}})[0]["facts"]
    assert facts == {**SAID, name: None}
    assert set(facts) == set(KINDS)


@pytest.mark.parametrize("facts", [None, [], "done", {}])
def test_an_answer_that_says_nothing_is_a_failure(desk: Desk, facts: Any) -> None:
    answer, _ = ran(desk, {"event": "done", "facts": facts})
    assert answer["lines"] == ["It failed on the mock. Approved, its rounds would most likely not run."]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"event": "failed", "output": "IndexError: 9"}, "IndexError: 9"),
        ({"event": "failed"}, "It ended without a word."),
        (Unavailable("The runner does not answer."), "The runner does not answer."),
    ],
)
def test_the_owner_reads_why_it_failed(desk: Desk, message: Any, says: str) -> None:
    answer, _ = ran(desk, message)
    assert (answer["failed"], answer["facts"]) == (says, None)


def test_long_output_is_cut(desk: Desk) -> None:
    answer, _ = ran(desk, {"event": "failed", "output": "x" * 50_000})
    assert len(answer["failed"]) == 20_000


def test_what_has_no_plan_is_not_run_and_what_was_not_run_is_not_known(desk: Desk) -> None:
    runs = desk.datasite.mock_runs
    assert runs.of("request-1") is None
    record = desk.datasite.ledger.requests.get("request-1").__class__(
        id="request-2", function="f", researcher="a@b.example", dataset="flu", version="v", population=None, source=""
    )
    assert not runs.start(record)
    with pytest.raises(WrongStatus, match="has no plan"):
        runs.run(record)


def test_figures_in_words() -> None:
    lines = sentences({"facts": SAID})
    assert lines[0].startswith("Trained for all 5 steps of a round on 400 mock rows in 1.2 s.")
    assert "200 MB" in lines[0]
    assert lines[1] == "The model's 8 numbers changed, and all of them are finite."
    assert "0.700 before, 0.650 after" in lines[2]
    part = sentences({"facts": {**SAID, "steps": 3, "moved": False, "finite": False, "loss_after": None}})
    assert part[0].startswith("Trained for 3 of the 5 steps")
    assert part[1] == "The model's 8 numbers did not change, and some of them are not finite."
    assert len(part) == 2
    counted = sentences({"facts": {**SAID, "steps": None, "answers": 1, "seconds": 0.01}})
    assert counted[0].startswith("Answered 1 statistic over 400 mock rows in less than 0.1 s.")


@pytest.mark.parametrize("steps", [5, None])
def test_a_mock_run_says_which_engine_runs_the_model_and_why(steps: int | None) -> None:
    verb = "Trains" if steps else "Scores"
    fast = sentences({"facts": SAID | {"steps": steps, "lanes": True, "slower": ""}})
    assert sum(line == f"{verb} in lanes: one record in each lane of the processor's vectors." for line in fast) == 1
    slow = sentences({"facts": SAID | {"steps": steps, "lanes": False, "slower": "It uses sort: 300 numbers."}})
    assert sum(line == f"{verb} record by record, which is slower. It uses sort: 300 numbers." for line in slow) == 1
    unknown = sentences({"facts": SAID | {"steps": steps, "lanes": False}})
    assert sum(line == f"{verb} record by record, which is slower." for line in unknown) == 1


def test_why_a_model_is_slower_is_short_and_shows_itself() -> None:
    assert _checked({"slower": "a\x1b[2J" * 1000}, "slower").startswith("a<U+001B>[2Ja")
    assert len(_checked({"slower": "a" * 1000}, "slower")) == LONGEST_REASON
    assert _checked({"slower": 7}, "slower") is None


def test_a_mock_run_says_that_a_frozen_body_runs_once_a_round() -> None:
    words = "What its frozen body computes of a record is computed once a round, and not at each step."
    told = SAID | {"steps": 3, "lanes": True, "slower": ""}
    assert words in "\n".join(sentences({"facts": told | {"once": True}}))
    for more in ({}, {"once": False}, {"once": None}):
        assert words not in "\n".join(sentences({"facts": told | more}))


@pytest.mark.parametrize("more", [{}, {"lanes": None}])
def test_a_mock_run_from_before_there_were_lanes_says_nothing_of_them(more: dict[str, Any]) -> None:
    assert not any("lane" in line or "record by" in line for line in sentences({"facts": SAID | more}))


@pytest.mark.parametrize("said", ["yes", 1, None, {}])
def test_what_a_job_says_of_its_engine_is_a_flag_or_nothing(said: object) -> None:
    assert KINDS["lanes"] is bool
    assert _checked({"lanes": said}, "lanes") is None
    assert _checked({"lanes": True}, "lanes") is True
