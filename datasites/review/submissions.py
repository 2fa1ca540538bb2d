"""What researchers submit: a quote without a trace, and a request that is inspected before anything of it is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from datasites.ledger.kept import may_draw
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from datasites.review.decisions import Decisions
from datasites.review.planning import Engine, Planner, published_from
from datasites.review.policy import Outcome
from datasites.review.pricing import Cost, cost_of
from datasites.review.quotas import DAY, Quota
from policies.errors import GraphRefused, InspectionFailed, InvalidRequest, Unavailable, WrongStatus
from policies.privacy import accountant
from policies.privacy.sharing import shared_of
from policies.release.plans import Plan, Published
from policies.source.findings import Finding
from policies.source.statuses import RequestStatus
from policies.text import check_visible

LONGEST_PURPOSE = 4000
LONGEST_REFUSED_SOURCE = 4_000  # characters that are kept; the digest names the whole


@dataclass(frozen=True)
class Quote:
    """What a datasite would say to a source: why not, or the plan and what it costs."""

    accepted: bool
    findings: tuple[Finding, ...]
    plan: Plan | None = None
    cost: Cost | None = None
    engine: Engine | None = None


@dataclass(frozen=True)
class SubmissionQuotas:
    """What one researcher may submit.

    Args:
      open_requests: that wait for a decision.
      requests_per_day: whatever becomes of them.
      refused_bytes_per_day: that the ledger keeps of sources which inspection refuses; it never forgets them.
    """

    open_requests: int = 100
    requests_per_day: int = 500
    refused_bytes_per_day: int = 1 << 20


class Submissions:
    """Takes sources, over one ledger."""

    def __init__(
        self, ledger: Ledger, planner: Planner, decisions: Decisions, quotas: SubmissionQuotas | None = None
    ) -> None:
        self.ledger = ledger
        self.planner = planner
        self.decisions = decisions
        self.quotas = quotas or SubmissionQuotas()
        self._made = Quota(self.quotas.requests_per_day, DAY)
        self._refused = Quota(self.quotas.refused_bytes_per_day, DAY)

    def quote(self, source: str, dataset: str, researcher: str) -> Quote:
        """Findings, plan, cost and engine of a source, with nothing recorded."""
        published = self.planner.published(name=dataset)
        try:
            plan = self.planner.plan(source, published, researcher=researcher)
        except InvalidRequest as error:
            return Quote(False, findings_of(error))
        failed, cost = self._judged(plan, published, researcher, accepted=False)
        if shared_of(plan.mechanism) is not None and (failed or not cost.fit.fits):
            failed_so, cost_so = self._judged(plan, published, researcher, accepted=True)
            if not failed_so:  # so it could be approved, if its owner relies on the roster
                failed, cost = failed_so, cost_so
        findings = tuple(_finding("rule", check.message, check.title) for check in failed)
        engine = self.planner.engine(plan, published, researcher=researcher)
        return Quote(not failed, findings, plan, cost, engine)

    def _judged(
        self, plan: Plan, published: Published, researcher: str, *, accepted: bool
    ) -> tuple[list[Outcome], Cost]:
        """Checks that fail, and the cost, with an acceptance of the plan's shared noise or without."""
        checks = self.decisions.checks(plan, published, researcher, accepted=accepted)
        failed = [check for check in checks if not check.passed]
        return failed, self._cost(plan, published, researcher, accepted)

    def _cost(self, plan: Plan, published: Published, researcher: str, accepted: bool) -> Cost:
        """What a plan would cost; out of what is reserved for a project, where its researcher is named for that.

        Under which project it will be filed nobody has said yet, so it fits where it would under one of them.
        """
        yearly = self.decisions.yearly_plan(published.population)
        balance = self.ledger.budgets.balance(published.population)
        charge = accountant.charge_for(plan.mechanism, balance.order, accepted=accepted)
        total = balance.charged(charge, plan.rounds)
        parts = self.ledger.parts.list(published.population)
        ways = [None, *(part for part in parts if may_draw(part, researcher, total))]
        costs = [cost_of(self.ledger, plan, published, yearly=yearly, part=part, accepted=accepted) for part in ways]
        return min(costs, key=lambda cost: cost.fit.short)

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
          Unavailable: the researcher has submitted as much as one may, or has used up the exporter's time.
        """
        check_visible(purpose, "The purpose")
        self._check_project(project)
        dataset = next((dataset for dataset in self.ledger.datasets.list() if asset in dataset.assets.values()), None)
        if dataset is None:
            raise InvalidRequest("`records` is bound to no dataset that is published here now. Bind its asset again.")
        published = published_from(dataset)
        self._check_new(researcher, source, published)
        self._check_quotas(researcher)
        try:
            plan = self.planner.plan(source, published, researcher=researcher)
        except InvalidRequest as error:
            self._record_denied(researcher, source, published, purpose, error)
            raise InvalidRequest(_as_text(error)) from None
        self._made.take(researcher, 1)
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
        found = self.ledger.requests.ids_from(prefix) if len(prefix) >= 4 else ()
        if len(found) != 1:
            what = "no request" if not found else f"{len(found)} requests"
            raise InvalidRequest(f"{prefix!r} names {what}. `datasite requests` lists them.")
        return self.ledger.requests.get(found[0])

    def _check_new(self, researcher: str, source: str, published: Published) -> None:
        record = self.ledger.requests.same_source(researcher, published.version, source)
        if record is not None:
            raise WrongStatus(
                f"You asked this before: request {record.id[:8]}, {record.status}. Go on with that one, or change"
                " the source (a comment is enough) to ask anew."
            )

    def _check_quotas(self, researcher: str) -> None:
        """Raise `Unavailable`, naming the setting, where a researcher has submitted as much as one may."""
        waiting = self.ledger.requests.count_waiting(researcher)
        if waiting >= self.quotas.open_requests:
            raise Unavailable(
                f"{waiting} of your requests wait for a decision, and open_requests={self.quotas.open_requests} may."
                " Withdraw some, or wait until they are decided."
            )
        if self._made.left(researcher) <= 0:
            raise Unavailable(
                f"You made requests_per_day={self.quotas.requests_per_day} requests within a day. Try again in"
                f" {self._made.minutes(researcher)} min; a quote is no request."
            )
        if self._refused.left(researcher) <= 0:
            raise Unavailable(
                f"Inspection refused as much from you as is kept of a day, refused_kib_per_day="
                f"{self.quotas.refused_bytes_per_day >> 10}. Try sources by quotes, which are not kept, and submit"
                f" again in {self._refused.minutes(researcher)} min."
            )

    def _record_denied(
        self, researcher: str, source: str, published: Published, purpose: str, error: InvalidRequest
    ) -> None:
        record = _record(secrets.token_hex(16), researcher, _beginning(source), published, purpose, "refused")
        record = record.with_findings(findings_of(error))
        self._made.take(researcher, 1)
        size = sum(len(text.encode(errors="replace")) for text in (record.source, record.purpose, record.findings_json))
        self._refused.take(researcher, size)
        self.ledger.requests.submit(record)
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


def _beginning(source: str) -> str:
    """What is kept of a refused source: all of a short one, else its beginning and its digest. Nothing will run it."""
    if len(source) <= LONGEST_REFUSED_SOURCE:
        return source
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{source[:LONGEST_REFUSED_SOURCE]}\n# ... {len(source):,} characters in all, with SHA-256 {digest}"


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
