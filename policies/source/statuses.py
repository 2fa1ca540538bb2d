"""Statuses of code requests and runs, who may move them, and what a researcher reads of each.

Both transition tables are data, and both sides share them: a datasite's ledger moves statuses, in one transaction with
the entry of the move, and a researcher reads them. `denied` and `changes_requested` are final for a request: whoever
changes the source submits anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from policies.errors import WrongStatus


class Party(StrEnum):
    """Who can act on a request."""

    RESEARCHER = "researcher"
    OWNER = "owner"
    DATASITE = "datasite"


class Side(StrEnum):
    """Whose vote it is where two people must agree: the owner's (console, command or PySyft), or the reviewer's."""

    OWNER = "owner"
    SECOND_REVIEWER = "second_reviewer"


class RequestStatus(StrEnum):
    """Where a code request stands."""

    SUBMITTED = "submitted"
    CHECKED = "checked"
    APPROVED = "approved"
    COMPLETED = "completed"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    DENIED = "denied"
    CHANGES_REQUESTED = "changes_requested"


class RunStatus(StrEnum):
    """Where one run of an approved request stands. From `RUNNING` on, its charge stays."""

    RESERVED = "reserved"
    RUNNING = "running"
    RELEASED = "released"
    FAILED = "failed"
    VOID = "void"


_S, _R, _P = RequestStatus, RunStatus, Party

# From each status to each that may follow, and the parties who may make that move.
REQUEST_TRANSITIONS: Mapping[RequestStatus, Mapping[RequestStatus, frozenset[Party]]] = {
    _S.SUBMITTED: {
        _S.CHECKED: frozenset({_P.DATASITE}),
        _S.DENIED: frozenset({_P.DATASITE, _P.OWNER}),
        _S.CHANGES_REQUESTED: frozenset({_P.OWNER}),
        _S.WITHDRAWN: frozenset({_P.RESEARCHER}),
    },
    _S.CHECKED: {
        _S.APPROVED: frozenset({_P.OWNER}),
        _S.DENIED: frozenset({_P.DATASITE, _P.OWNER}),
        _S.CHANGES_REQUESTED: frozenset({_P.OWNER}),
        _S.WITHDRAWN: frozenset({_P.RESEARCHER}),
    },
    _S.APPROVED: {
        _S.COMPLETED: frozenset({_P.DATASITE}),
        _S.EXPIRED: frozenset({_P.DATASITE}),
        _S.WITHDRAWN: frozenset({_P.RESEARCHER}),
        _S.REVOKED: frozenset({_P.OWNER}),
    },
    _S.COMPLETED: {},
    _S.EXPIRED: {},
    _S.WITHDRAWN: {},
    _S.REVOKED: {},
    _S.DENIED: {},
    _S.CHANGES_REQUESTED: {},
}

RUN_TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    _R.RESERVED: frozenset({_R.RUNNING, _R.VOID}),
    _R.RUNNING: frozenset({_R.RELEASED, _R.FAILED}),
    _R.RELEASED: frozenset(),
    _R.FAILED: frozenset(),
    _R.VOID: frozenset(),
}

# All that a researcher reads of a status. Fixed texts: nothing that happened to private rows can show in them.
STATUS_TEXT: Mapping[RequestStatus, str] = {
    _S.SUBMITTED: "Submitted. The datasite is inspecting the source.",
    _S.CHECKED: "Inspected. The data owner has yet to decide.",
    _S.APPROVED: "Approved. Run its rounds before the approval expires.",
    _S.COMPLETED: "Completed. Every run it was approved for is used; releases can still be fetched.",
    _S.EXPIRED: "Expired. Submit it again to run what is left.",
    _S.WITHDRAWN: "Withdrawn by its researcher.",
    _S.REVOKED: "Revoked by the data owner. Nothing more will run.",
    _S.DENIED: "Denied. Read the findings and the comment, and submit a new request.",
    _S.CHANGES_REQUESTED: "The data owner asks for changes. Read the comment, and submit a new request.",
}


def check_transition(old: RequestStatus, new: RequestStatus, *, request: str, party: Party | None = None) -> None:
    """Raise `WrongStatus` unless `party` (None: anyone) may move a request from `old` to `new`."""
    allowed = REQUEST_TRANSITIONS[old]
    if new not in allowed:
        nexts = ", ".join(allowed) or "nothing: submit a new request"
        raise WrongStatus(
            f"Request {request} is {old} and cannot become {new}. From there it can become {nexts}.",
            status=old,
            wanted=new,
        )
    if party is not None and party not in allowed[new]:
        who = " or ".join(sorted(allowed[new]))
        raise WrongStatus(f"A {party} cannot make request {request} {new}; ask the {who}.", status=old, wanted=new)


def check_run_transition(old: RunStatus, new: RunStatus, *, run: str) -> None:
    """Raise `WrongStatus` unless `RUN_TRANSITIONS` lets a run go from `old` to `new`."""
    if new not in RUN_TRANSITIONS[old]:
        raise WrongStatus(f"Run {run} is {old} and cannot become {new}.", status=old, wanted=new)
