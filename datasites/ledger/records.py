"""What a code request and a run can be: statuses, who may move them, and what a researcher may read of each.

Both transition tables are data. `ledger.py` is the only place that moves a status, and writes its entry in the same
transaction. `denied` and `changes_requested` are final for a record: a researcher who changes the source submits anew.
Nothing here touches a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

# Who is to act while a request stands there; of a final status, whose move it would be to go on.
STATUS_OWNER: Mapping[RequestStatus, Party] = {
    _S.SUBMITTED: _P.DATASITE,
    _S.CHECKED: _P.OWNER,
    _S.APPROVED: _P.RESEARCHER,
    _S.COMPLETED: _P.RESEARCHER,
    _S.EXPIRED: _P.RESEARCHER,
    _S.WITHDRAWN: _P.RESEARCHER,
    _S.REVOKED: _P.OWNER,
    _S.DENIED: _P.RESEARCHER,
    _S.CHANGES_REQUESTED: _P.RESEARCHER,
}

RUN_OWNER: Mapping[RunStatus, Party] = {
    _R.RESERVED: _P.DATASITE,
    _R.RUNNING: _P.DATASITE,
    _R.RELEASED: _P.RESEARCHER,
    _R.FAILED: _P.RESEARCHER,
    _R.VOID: _P.RESEARCHER,
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

RUN_TEXT: Mapping[RunStatus, str] = {
    _R.RESERVED: "Waiting to run.",
    _R.RUNNING: "Running.",
    _R.RELEASED: "Released.",
    _R.FAILED: "Failed on the datasite. Its charge is kept; the round may be asked again while runs are left.",
    _R.VOID: "Not run, and not charged. Ask for the round again.",
}

CLOSING = frozenset({_S.EXPIRED, _S.WITHDRAWN, _S.REVOKED})


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


@dataclass(frozen=True)
class CodeRequestRecord:
    """One code request, as submitted (up to `syft_json`) and as the ledger keeps it (the rest).

    Args:
      id: the code's identifier, as text; unique.
      researcher: e-mail of who asked.
      dataset, version, population: of the inputs; `population` is None where the inputs are not known here.
      plan_json, plan_digest: of the inspected plan; None until the request is checked.
      findings_json: what inspection has to say, a JSON list.
      syft_json: PySyft's identifiers, a JSON object.
      by_owner: a charge of the datasite's own, such as a dataset's DP count.
      rounds: releases approved; `attempts` of them have touched data, `open_runs` are reserved or running.
      charge_json: the approved charge of one round.
      submitted_at, changed_at, expires_at: UTC, ISO 8601.
    """

    id: str
    function: str
    researcher: str
    dataset: str
    version: str
    population: str | None
    source: str
    plan_json: str | None = None
    plan_digest: str | None = None
    findings_json: str = "[]"
    purpose: str = ""
    syft_json: str = "{}"
    by_owner: bool = False
    status: RequestStatus = RequestStatus.SUBMITTED
    rounds: int = 0
    attempts: int = 0
    open_runs: int = 0
    charge_json: str | None = None
    submitted_at: str = ""
    changed_at: str = ""
    expires_at: str | None = None

    @property
    def runs_left(self) -> int:
        """Runs that an approved request may still begin."""
        return self.rounds - self.attempts - self.open_runs if self.status is RequestStatus.APPROVED else 0


@dataclass(frozen=True)
class Run:
    """One run of a request's round. `reason` is the owner's to read."""

    id: str
    request: str
    round: int
    weights_digest: str
    status: RunStatus
    created_at: str
    changed_at: str
    reason: str | None = None


@dataclass(frozen=True)
class Comment:
    """What `actor` wrote on a request; researcher and owner both read it."""

    request: str
    at: str
    actor: str
    text: str


@dataclass(frozen=True)
class Vote:
    """One side's approval of a plan, cast once and sealed until the request is decided."""

    request: str
    side: Side
    actor: str
    plan_digest: str
    at: str


@dataclass(frozen=True)
class DatasetRecord:
    """A version of a published table, as the ledger keeps it.

    Args:
      version: a random identifier, new at each publication.
      patients: the published number, or None while a staged version has no number yet.
      size_kind: `"declared"` or `"dp-count"`.
      assets_json: identifiers of its private tensors, a JSON object.
      status: `"staged"`, `"published"` or `"retired"`.
    """

    name: str
    version: str
    population: str
    schema_json: str
    patients: int | None
    size_kind: str
    assets_json: str = "{}"
    status: str = "staged"
    changed_at: str = ""
