"""What people write for each other is refused where it is written, if it holds characters that do not show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from datasites.datasite import Office
from datasites.ledger.records import RequestStatus
from datasites.review.review import Review
from policies.errors import InvalidRequest

NONE: Any = None  # nothing of these is reached


def test_a_purpose_with_hidden_characters_is_refused_before_anything_is_kept() -> None:
    with pytest.raises(InvalidRequest, match=r"The purpose holds .*U\+001B"):
        Review(NONE, NONE, NONE).submit("r@university.example", "", "", "To\x1b[2J train.", dict)


@pytest.mark.parametrize("to", [RequestStatus.DENIED, RequestStatus.CHANGES_REQUESTED, RequestStatus.REVOKED])
def test_a_comment_with_hidden_characters_is_refused_and_decides_nothing(to: RequestStatus) -> None:
    ledger = SimpleNamespace(get=lambda code: SimpleNamespace(status=RequestStatus.CHECKED))
    office: Any = SimpleNamespace(ledger=ledger)  # without a way to decide
    with pytest.raises(InvalidRequest, match=r"The comment holds .*U\+202E"):
        Office.decide(office, "code", to, "owner", "No.\u202e")


def test_a_comment_of_two_lines_as_a_browser_sends_it_is_taken() -> None:
    taken: list[str] = []

    def transition(code: str, to: RequestStatus, *, comment: str, **_: Any) -> None:
        taken.append(comment)
        raise InterruptedError

    ledger = SimpleNamespace(get=lambda code: SimpleNamespace(status=RequestStatus.CHECKED), transition=transition)
    office: Any = SimpleNamespace(ledger=ledger)
    with pytest.raises(InterruptedError):
        Office.decide(office, "code", RequestStatus.DENIED, "owner", "Not now.\r\nAsk in May.")
    assert taken == ["Not now.\nAsk in May."]
