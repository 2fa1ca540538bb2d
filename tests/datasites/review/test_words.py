"""What people write for each other is refused where it is written, if it holds characters that do not show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from datasites.ledger.records import CodeRequestRecord
from datasites.people.roles import Actor, Role
from datasites.review.decisions import Decisions
from datasites.review.policy import Rules
from datasites.review.submissions import Submissions
from policies.errors import InvalidRequest
from policies.source.statuses import RequestStatus

NONE: Any = None  # nothing of these is reached
OWNER = Actor("owner@hospital.example", Role.OWNER)


def _decisions(status: RequestStatus, taken: list[str]) -> tuple[Decisions, CodeRequestRecord]:
    """Decisions over a ledger that notes the comment and then stops, and one request in `status`."""

    def transition(code: str, to: RequestStatus, *, comment: str, **_: Any) -> None:
        taken.append(comment)
        raise InterruptedError

    ledger: Any = SimpleNamespace(transition=transition, requests=SimpleNamespace(votes=lambda code: []))
    record = CodeRequestRecord(
        id="1" * 32, function="flu", researcher="r@university.example", dataset="flu", version="v1",
        population="patients", source="", status=status,
    )  # fmt: skip
    return Decisions(ledger, NONE, NONE, Rules), record


def test_a_purpose_with_hidden_characters_is_refused_before_anything_is_kept() -> None:
    with pytest.raises(InvalidRequest, match=r"The purpose holds .*U\+001B"):
        Submissions(NONE, NONE, NONE).submit("r@university.example", "", "", "To\x1b[2J train.", dict)


@pytest.mark.parametrize("decision", ["deny", "ask_changes", "revoke"])
def test_a_comment_with_hidden_characters_is_refused_and_decides_nothing(decision: str) -> None:
    taken: list[str] = []
    decisions, record = _decisions(RequestStatus.CHECKED, taken)
    with pytest.raises(InvalidRequest, match=r"The comment holds .*U\+202E"):
        getattr(decisions, decision)(record, OWNER, "No.\u202e")
    assert taken == []


def test_a_comment_of_two_lines_as_a_browser_sends_it_is_taken() -> None:
    taken: list[str] = []
    decisions, record = _decisions(RequestStatus.CHECKED, taken)
    with pytest.raises(InterruptedError):
        decisions.deny(record, OWNER, "Not now.\r\nAsk in May.")
    assert taken == ["Not now.\nAsk in May."]
