"""Comments on a request, while it waits or is approved: whoever decides on it writes here, and so does who asked.

They are only ever added to. Who wrote when is in the audit log; what was written is kept with the request.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.records import CodeRequestRecord
from datasites.people.roles import DECIDERS, Actor
from policies.errors import InvalidRequest
from policies.text import check_visible

LONGEST_COMMENT = 4000
MOST_COMMENTS = 100  # of one person on one request


@action(DECIDERS)
def comment(datasite: Datasite, actor: Actor, *, request: str, text: str) -> list[dict[str, Any]]:
    """Write on a request; its researcher reads it. Everything that is written on it, oldest first."""
    record = datasite.submissions.find(request)
    write_comment(datasite, record, actor.name, text)
    return [asdict(written) for written in datasite.ledger.requests.comments(record.id)]


def write_comment(datasite: Datasite, record: CodeRequestRecord, name: str, text: object) -> None:
    """Keep a comment of whoever `name` is.

    Raises:
      InvalidRequest: it is no text, empty, longer than `LONGEST_COMMENT`, or holds characters that nobody sees.
      WrongStatus: the request is closed, or `name` has written `MOST_COMMENTS` comments on it.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest("The comment is empty. Write what the other side should read.")
    text = text.strip().replace("\r\n", "\n")
    if len(text) > LONGEST_COMMENT:
        raise InvalidRequest(
            f"The comment has {len(text):,} characters, and {LONGEST_COMMENT:,} are the most. Shorten it."
        )
    check_visible(text, "The comment")
    datasite.ledger.requests.write_comment(record.id, actor=name, text=text, most=MOST_COMMENTS)
    datasite.audit_log.record(name, "comment", record.id)
