"""Records of the ledger's tables: code requests, runs, comments, votes and datasets, as frozen values.

A record keeps the text that is stored and hashed (`plan_json` and the like), and gives what it says as values: `plan`,
`findings`, `syft`, `charge`, `schema`, `assets`. A text is parsed when its value is first asked for, so listing ten
thousand requests parses no plan. Nothing here touches a file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from datasites.ledger.amounts import COLUMNS, Amount, Charged
from policies.canonical import canonical
from policies.privacy.mechanisms import Patients
from policies.release.plans import Plan, plan_from
from policies.schema.schemas import Schema
from policies.source.findings import Finding
from policies.source.statuses import RequestStatus, RunStatus, Side


@dataclass(frozen=True)
class CodeRequestRecord:
    """One code request, as submitted (up to `syft_json`) and as the ledger keeps it (the rest).

    Args:
      id: the code's identifier, as text; unique.
      researcher: e-mail of who asked.
      dataset, version, population: of the inputs; `population` is None where the inputs are not known here.
      plan_json, plan_digest: of the inspected plan; None until the request is checked. Read it as `plan`.
      findings_json: what inspection has to say, a JSON list. Read it as `findings`.
      syft_json: PySyft's identifiers, a JSON object. Read it as `syft`.
      by_owner: a charge of the datasite's own, such as a dataset's DP count.
      rounds: releases approved; `attempts` of them have touched data, `open_runs` are reserved or running.
      charge_json: the approved charge of one round. Read it as `charge`.
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

    @cached_property
    def plan(self) -> Plan | None:
        """What inspection made of the source; None until the request is checked."""
        return None if self.plan_json is None else parsed_plan(self.plan_json)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What inspection has against the source."""
        return tuple(Finding(**finding) for finding in json.loads(self.findings_json))

    @cached_property
    def syft(self) -> Mapping[str, str]:
        """PySyft's identifiers of the code and its request; empty where PySyft does not know it."""
        return dict(json.loads(self.syft_json))

    @cached_property
    def charge(self) -> Amount | None:
        """The approved charge of one round; None where nothing was approved."""
        if self.charge_json is None:
            return None
        facts = json.loads(self.charge_json)
        return Amount(**{name: facts[name] for name in COLUMNS})

    @cached_property
    def patients(self) -> Patients:
        """Whose accounts the charge is in; both, where it was approved before there were two."""
        return Patients(json.loads(self.charge_json or "{}").get("patients", Patients.ALL))

    @cached_property
    def acceptance(self) -> str | None:
        """Digest of the owner's word for the shared noise of this request; None where none was given."""
        acceptance: str | None = json.loads(self.charge_json or "{}").get("acceptance")
        return acceptance

    def with_findings(self, findings: Iterable[Finding]) -> CodeRequestRecord:
        """The same request with what inspection has against it."""
        return dataclasses.replace(self, findings_json=findings_text(findings))

    def with_syft(self, identifiers: Mapping[str, str]) -> CodeRequestRecord:
        """The same request with PySyft's identifiers of it."""
        return dataclasses.replace(self, syft_json=json.dumps(dict(identifiers)))

    @property
    def runs_left(self) -> int:
        """Runs that an approved request may still begin."""
        return self.rounds - self.attempts - self.open_runs if self.status is RequestStatus.APPROVED else 0


@dataclass(frozen=True)
class RequestLine:
    """A code request as lists show it, without its texts; of its plan the facts that a line has, None without one."""

    id: str
    status: RequestStatus
    researcher: str
    function: str
    dataset: str
    mechanism: str | None
    epsilon: float | None
    rounds: int | None
    submitted_at: str
    expires_at: str | None


@dataclass(frozen=True)
class WaitingRequest:
    """A request that waits for the owner, with what its charge follows from: its plan's mechanism, as JSON text.

    `project` is the id of the one that it is filed under, None of one that is filed under none.
    """

    id: str
    researcher: str
    function: str
    dataset: str
    submitted_at: str
    mechanism_json: str
    project: str | None


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

    @property
    def is_open(self) -> bool:
        """Whether it has yet to end: reserved or running."""
        return self.status in (RunStatus.RESERVED, RunStatus.RUNNING)


@dataclass(frozen=True)
class RunLine:
    """A run with the names of its request, as lists show it."""

    run: Run
    function: str
    researcher: str
    dataset: str
    rounds: int
    request_status: RequestStatus
    by_owner: bool


@dataclass(frozen=True)
class StoredRelease:
    """The stored bytes of a release, the digest of its tensors, and its signed certificate."""

    bytes: bytes
    digest: str
    certificate: str


@dataclass(frozen=True)
class ReleaseRecord:
    """A release without its bytes, of which it has the number as `size`."""

    run: str
    request: str
    round: int
    at: str
    digest: str
    certificate: str
    size: int


@dataclass(frozen=True)
class ReleaseLine:
    """A release with the names of its request, as lists show it."""

    request: str
    round: int
    at: str
    digest: str
    size: int
    function: str
    researcher: str
    dataset: str
    population: str | None
    by_owner: bool


@dataclass(frozen=True)
class DaySpending:
    """What one day's runs of one dataset and researcher spent; both are empty where it was lost with a copy."""

    day: str
    dataset: str
    researcher: str
    charged: Charged
    runs: int


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
      schema_json: its public schema, a JSON object. Read it as `schema`.
      assets_json: identifiers of its private tensors, a JSON object. Read it as `assets`.
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

    @classmethod
    def of(cls, schema: Schema, *, version: str, patients: int | None, size_kind: str) -> DatasetRecord:
        """A version of the table that `schema` declares, not yet published."""
        return cls(
            name=schema.name,
            version=version,
            population=schema.population,
            schema_json=canonical(schema.as_dict()).decode(),
            patients=patients,
            size_kind=size_kind,
        )

    @cached_property
    def schema(self) -> Schema:
        """The public declaration of its columns. Raises `DataRefused` where the stored text is none."""
        return Schema.from_dict(json.loads(self.schema_json))

    @cached_property
    def assets(self) -> Mapping[str, str]:
        """Identifiers of its private tensors by name; empty while they are not uploaded."""
        return dict(json.loads(self.assets_json))

    def with_assets(self, assets: Mapping[str, str]) -> DatasetRecord:
        """The same version with the identifiers of its private tensors."""
        return dataclasses.replace(self, assets_json=json.dumps(dict(assets)))


def findings_text(findings: Iterable[Finding]) -> str:
    """Findings as the ledger stores them."""
    return json.dumps([dataclasses.asdict(finding) for finding in findings])


@lru_cache(maxsize=256)
def parsed_plan(text: str) -> Plan:
    """A plan of its stored text: one decision reads a request several times and parses it once."""
    return plan_from(json.loads(text))
