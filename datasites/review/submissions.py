"""What researchers submit: a quote without a trace, and a request that is inspected before anything of it is kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from datasites.review.decisions import Decisions
from datasites.review.planning import Planner, published_from
from datasites.review.pricing import Cost, cost_of
from policies.errors import GraphRefused, InspectionFailed, InvalidRequest, WrongStatus
from policies.release.plans import Plan, Published
from policies.source.findings import Finding
from policies.source.statuses import RequestStatus
from policies.text import check_visible

LONGEST_PURPOSE = 4000
LONGEST_REFUSED_SOURCE = 100_000


@dataclass(frozen=True)
class Quote:
    """What a datasite would say to a source: why not, or the plan and what it costs."""

    accepted: bool
    findings: tuple[Finding, ...]
    plan: Plan | None = None
    cost: Cost | None = None


class Submissions:
    """Takes sources, over one ledger."""

    def __init__(self, ledger: Ledger, planner: Planner, decisions: Decisions) -> None:
        self.ledger = ledger
        self.planner = planner
        self.decisions = decisions

    def quote(self, source: str, dataset: str, researcher: str) -> Quote:
        """Findings, plan and cost of a source, with nothing recorded."""
        published = self.planner.published(name=dataset)
        try:
            plan = self.planner.plan(source, published)
        except InvalidRequest as error:
            return Quote(False, findings_of(error))
        failed = [check for check in self.decisions.checks(plan, published, researcher) if not check.passed]
        findings = tuple(_finding("rule", check.message, check.title) for check in failed)
        return Quote(not failed, findings, plan, cost_of(self.ledger, plan, published))

    def submit(
        self,
        researcher: str,
        source: str,
        asset: str,
        purpose: str,
        store: Callable[[], dict[str, str]],
        project: str = "",
    ) -> CodeRequestRecord:
        """Inspect and record a request; `store` keeps it in PySyft and names its identifiers.

        Args:
          project: the name of a project that goes on, to file the request under; "" for none.

        Raises:
          InvalidRequest: it names no project that goes on, or no dataset.
          InspectionFailed: it is recorded as denied, with its findings, and reaches nobody's inbox.
          WrongStatus: the same source was submitted before.
        """
        check_visible(purpose, "The purpose")
        self._check_project(project)
        dataset = next((dataset for dataset in self.ledger.datasets.list() if asset in dataset.assets.values()), None)
        if dataset is None:
            raise InvalidRequest("`records` is bound to no dataset that is published here now. Bind its asset again.")
        published = published_from(dataset)
        self._check_new(researcher, source, published)
        try:
            plan = self.planner.plan(source, published)
        except InvalidRequest as error:
            self._record_denied(researcher, source, published, purpose, error)
            raise InvalidRequest(_as_text(error)) from None
        ids = store()
        new = _record(ids["code"], researcher, source, published, purpose, plan.function).with_syft(ids)
        return self.ledger.requests.check(self.ledger.submit(new, project=project).id, plan)

    def _check_project(self, name: str) -> None:
        """One answer for a name that is none and for a project that has ended: names are not for guessing."""
        if name and not any(
            project.name == name and not project.has_ended(self.ledger.projects.now())
            for project in self.ledger.projects.list()
        ):
            raise InvalidRequest(
                "No project of this name goes on here. Ask the data owner for its name, to the letter."
            )

    def check_submitted(self) -> None:
        """Give every request that a crash left as submitted its plan, or deny it."""
        for record in self.ledger.requests.list(status=RequestStatus.SUBMITTED):
            try:
                published = self.planner.published(version=record.version)
                self.ledger.requests.check(record.id, self.planner.plan(record.source, published))
            except InvalidRequest as error:
                self.ledger.transition(record.id, RequestStatus.DENIED, actor="datasite", findings=findings_of(error))

    def find(self, prefix: str) -> CodeRequestRecord:
        """The request whose id begins with `prefix` (4 characters or more). Raises `InvalidRequest`."""
        found = (
            [record for record in self.ledger.requests.list() if record.id.startswith(prefix)]
            if len(prefix) >= 4
            else []
        )
        if len(found) != 1:
            what = "no request" if not found else f"{len(found)} requests"
            raise InvalidRequest(f"{prefix!r} names {what}. `datasite requests` lists them.")
        return found[0]

    def _check_new(self, researcher: str, source: str, published: Published) -> None:
        for record in self.ledger.requests.list(researcher=researcher):
            if record.source == source and record.version == published.version and record.syft:
                raise WrongStatus(
                    f"You asked this before: request {record.id[:8]}, {record.status}. Go on with that one, or change"
                    " the source (a comment is enough) to ask anew."
                )

    def _record_denied(
        self, researcher: str, source: str, published: Published, purpose: str, error: InvalidRequest
    ) -> None:
        id, text = secrets.token_hex(16), source[:LONGEST_REFUSED_SOURCE]
        record = _record(id, researcher, text, published, purpose, "refused")
        self.ledger.requests.submit(record.with_findings(findings_of(error)))
        self.ledger.transition(record.id, RequestStatus.DENIED, actor="datasite", comment="Refused by inspection.")


def _record(
    id: str, researcher: str, source: str, published: Published, purpose: str, function: str
) -> CodeRequestRecord:
    return CodeRequestRecord(
        id=id,
        function=function,
        researcher=researcher,
        dataset=published.name,
        version=published.version,
        population=published.population,
        source=source,
        purpose=purpose[:LONGEST_PURPOSE],
    )


def findings_of(error: InvalidRequest) -> tuple[Finding, ...]:
    """Why a source was refused."""
    if isinstance(error, InspectionFailed):
        return tuple(finding for finding in error.findings if isinstance(finding, Finding))
    code = "graph" if isinstance(error, GraphRefused) else "mechanism"
    return (_finding(code, error.public_message, ""),)


def _finding(code: str, why: str, text: str) -> Finding:
    return Finding(code=code, line=0, column=0, text=text, why=why, instead="")


def _as_text(error: InvalidRequest) -> str:
    lines = [
        f"line {finding.line}, column {finding.column}: {finding.text}: {finding.why} {finding.instead}"
        if finding.line
        else finding.why
        for finding in findings_of(error)
    ]
    return "Refused before anything was asked of the owner.\n" + "\n".join(lines)
