"""The owner's decision: inspect, make the plan, say what it costs and risks, and decide.

Source goes in; out comes a plan from which both the charge and the run are built, or findings. Nothing of the
researcher's is executed here: inspection reads the text, and the exporter's confined process makes the graph.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from datasites.jobs.pool import JobPool
from datasites.ledger.entries import NANO, Balance, nano_down
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import STATUS_TEXT, CodeRequestRecord, DatasetRecord, RequestStatus, Side
from datasites.review.policy import outcomes
from datasites.settings import Settings
from policies.errors import (
    GraphRefused,
    InspectionFailed,
    InvalidRequest,
    RuleBroken,
    WrongStatus,
)
from policies.graph.graphs import Graph
from policies.privacy import accountant, risk
from policies.privacy.mechanisms import DPSGD, Evaluation, Statistics
from policies.release.plans import Plan, Published, canonical, plan_from
from policies.schema.schemas import Schema
from policies.source.inspection import Inspection, inspect_source
from policies.text import check_visible

EXPORT_SECONDS = 60.0
SIZE_TEXT = {"declared": "as declared", "dp-count": "a differentially private count"}
OPEN = (RequestStatus.SUBMITTED, RequestStatus.CHECKED, RequestStatus.APPROVED)


class Review:
    """Reads requests, prices them and moves them, over one ledger.

    Args:
      pool: where the exporter runs.
    """

    def __init__(self, settings: Settings, ledger: Ledger, pool: JobPool) -> None:
        self.settings = settings
        self.ledger = ledger
        self.pool = pool
        self._plans: OrderedDict[tuple[str, str], Plan] = OrderedDict()
        self._lock = threading.Lock()
        self.more_checks: list[Callable[[Plan, Published], dict[str, Any]]] = []
        """Checks that others add: each gives a title, whether it passed, and a message."""

    # -- what is published ---------------------------------------------------------------------------------------

    def published(self, *, name: str | None = None, version: str | None = None) -> Published:
        """A dataset's public side. Raises `InvalidRequest` where there is none of that name or version."""
        return published_from(self.ledger.dataset(name=name, version=version))

    # -- plans and costs -----------------------------------------------------------------------------------------

    def plan(self, source: str, published: Published) -> Plan:
        """The plan of a source on a dataset.

        Raises:
          InspectionFailed: the text is refused; carries findings.
          GraphRefused: the model cannot leave as a graph.
          UnsupportedMechanism: an argument does not fit the mechanism or the schema.
        """
        key = (hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(), published.version)
        with self._lock:
            if key in self._plans:
                return self._plans[key]
        plan = self._make_plan(source, key[0], published)
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > 64:
                self._plans.popitem(last=False)
        return plan

    def _make_plan(self, source: str, source_sha256: str, published: Published) -> Plan:
        inspection = inspect_source(source)
        schema = published.schema
        graph = None
        if isinstance(inspection.mechanism, Statistics):
            for query in inspection.mechanism.queries:
                schema.check_query(query)
        else:
            graph = self._export(inspection, schema)
        return Plan(
            function=inspection.function,
            mechanism=accountant.resolve(inspection.mechanism),
            model=inspection.model,
            graph=graph,
            source_sha256=source_sha256,
            dataset=published.name,
            version=published.version,
            declared=inspection.mechanism,
        )

    def _export(self, inspection: Inspection, schema: Schema) -> Graph:
        mechanism = inspection.mechanism
        assert isinstance(mechanism, DPSGD | Evaluation)
        shape = schema.input_shape(mechanism.inputs)
        job = {
            "job": "export",
            "source": inspection.model_source,
            "model": inspection.model,
            "input_shape": list(shape),
        }
        answer = self.pool.run("exporter", job, seconds=EXPORT_SECONDS, memory=2 << 30)
        if not answer.done:
            raise GraphRefused(answer.message.get("public") or "The model could not be exported. Try it on the mock.")
        graph = Graph.from_dict(answer.message.get("graph"))
        if graph.input_shape != shape:
            raise GraphRefused(f"The graph reads {graph.input_shape} and the schema gives {shape}.")
        check_outputs(graph, mechanism, schema)
        return graph

    def cost(self, plan: Plan, published: Published, researcher: str) -> dict[str, Any]:
        """What a plan costs and whether it fits, as plain data in ε."""
        mechanism = plan.mechanism
        balance = self.ledger.balance(published.population)
        delta = mechanism.delta if isinstance(mechanism, DPSGD) else balance.budget.delta
        charge = accountant.charge_for(mechanism, balance.order)
        return {
            "epsilon": accountant.epsilon_of(mechanism, delta),
            "delta": delta if isinstance(mechanism, DPSGD) else 0.0,
            "pld_epsilon": accountant.pld_epsilon(mechanism, delta),
            "rounds": plan.rounds,
            "noise_multiplier": mechanism.noise_multiplier if isinstance(mechanism, DPSGD) else None,
            "budget": balance.budget.epsilon,
            "population": published.population,
            **before_and_after(balance, charge, plan.rounds),
        }

    def checks(self, plan: Plan, published: Published, researcher: str) -> list[dict[str, Any]]:
        """Every check of a plan with its result, in a form to which later checks add themselves."""
        standalone = self._epsilon(plan, published)
        results = outcomes(self.settings.rules(), plan, published, standalone, researcher)
        return [
            {
                "title": "Inspection",
                "passed": True,
                "message": "only allowed forms; rows reach the mechanism alone",
            },
            {"title": "Model check", "passed": True, "message": _model_text(plan)},
            *({"title": each.title, "passed": each.passed, "message": each.message} for each in results),
            *(each(plan, published) for each in self.more_checks),
        ]

    def quote(self, source: str, dataset: str, researcher: str) -> dict[str, Any]:
        """Findings, plan and cost of a source, with nothing recorded."""
        published = self.published(name=dataset)
        try:
            plan = self.plan(source, published)
        except InvalidRequest as error:
            return {"accepted": False, "findings": findings_of(error), "plan": None, "plan_digest": None, "cost": None}
        failed = [each for each in self.checks(plan, published, researcher) if not each["passed"]]
        return {
            "accepted": not failed,
            "findings": [_finding("rule", each["message"], each["title"]) for each in failed],
            "plan": plan.as_dict(),
            "plan_digest": plan.digest,
            "cost": self.cost(plan, published, researcher),
        }

    # -- a request's life ----------------------------------------------------------------------------------------

    def submit(
        self, researcher: str, source: str, asset: str, purpose: str, store: Callable[[], dict[str, str]]
    ) -> CodeRequestRecord:
        """Inspect and record a request; `store` keeps it in PySyft and names its identifiers.

        Raises:
          InspectionFailed: it is recorded as denied, with its findings, and reaches nobody's inbox.
          WrongStatus: the same source was submitted before.
        """
        check_visible(purpose, "The purpose")
        record = next((each for each in self.ledger.datasets() if asset in json.loads(each.assets_json).values()), None)
        if record is None:
            raise InvalidRequest("`records` is bound to no dataset that is published here now. Bind its asset again.")
        published = published_from(record)
        self._check_new(researcher, source, published)
        try:
            plan = self.plan(source, published)
        except InvalidRequest as error:
            self._record_denied(researcher, source, published, purpose, error)
            raise InvalidRequest(_as_text(error)) from None
        ids = store()
        new = self._record(
            ids["code"], researcher, source, published, purpose, plan.function, syft_json=json.dumps(ids)
        )
        return self._check(self.ledger.submit(new), plan)

    def _check(self, record: CodeRequestRecord, plan: Plan) -> CodeRequestRecord:
        return self.ledger.check(record.id, plan_json=canonical(plan.as_dict()).decode(), plan_digest=plan.digest)

    def check_submitted(self) -> None:
        """Give every request that a crash left as submitted its plan, or deny it."""
        for record in self.ledger.list(status=RequestStatus.SUBMITTED):
            try:
                self._check(record, self.plan(record.source, self.published(version=record.version)))
            except InvalidRequest as error:
                findings = json.dumps(findings_of(error))
                self.ledger.transition(record.id, RequestStatus.DENIED, actor="datasite", findings_json=findings)

    def _check_new(self, researcher: str, source: str, published: Published) -> None:
        for each in self.ledger.list(researcher=researcher):
            if each.source == source and each.version == published.version and json.loads(each.syft_json):
                raise WrongStatus(
                    f"You asked this before: request {each.id[:8]}, {each.status}. Go on with that one, or change the"
                    " source (a comment is enough) to ask anew."
                )

    def _record_denied(
        self, researcher: str, source: str, published: Published, purpose: str, error: InvalidRequest
    ) -> None:
        findings = json.dumps(findings_of(error))
        record = self._record(
            secrets.token_hex(16), researcher, source[:100_000], published, purpose, "refused", findings_json=findings
        )
        self.ledger.submit(record)
        self.ledger.transition(record.id, RequestStatus.DENIED, actor="datasite", comment="Refused by inspection.")

    @staticmethod
    def _record(
        id: str, researcher: str, source: str, published: Published, purpose: str, function: str, **more: str
    ) -> CodeRequestRecord:
        return CodeRequestRecord(
            id=id,
            function=function,
            researcher=researcher,
            dataset=published.name,
            version=published.version,
            population=published.population,
            source=source,
            purpose=purpose[:4000],
            **more,  # type: ignore[arg-type]
        )

    def find(self, prefix: str) -> CodeRequestRecord:
        """The request whose id begins with `prefix` (4 characters or more). Raises `InvalidRequest`."""
        found = [each for each in self.ledger.list() if each.id.startswith(prefix)] if len(prefix) >= 4 else []
        if len(found) != 1:
            what = "no request" if not found else f"{len(found)} requests"
            raise InvalidRequest(f"{prefix!r} names {what}. `datasite requests` lists them.")
        return found[0]

    def approve(
        self, record: CodeRequestRecord, *, actor: str, plan_digest: str | None = None, side: Side = Side.OWNER
    ) -> CodeRequestRecord:
        """Approve a checked request: every check again, then the whole cost is reserved in the same transaction.

        Where two people must agree, this is the vote of `side`; the request stays `checked` until both have voted.

        Raises:
          WrongStatus: it is not waiting, or `plan_digest` is not the one that was read.
          RuleBroken: a check fails.
          BudgetExceeded: it does not fit; names asked, left and short.
        """
        if record.status is not RequestStatus.CHECKED or record.plan_json is None:
            raise WrongStatus(f"Request {record.id[:8]} is {record.status}. {STATUS_TEXT[record.status]}")
        if plan_digest is not None and plan_digest != record.plan_digest:
            raise WrongStatus(f"Request {record.id[:8]} is no longer the one that you read. Read it again.")
        plan, published = plan_from(json.loads(record.plan_json)), self.published(version=record.version)
        for check in self.checks(plan, published, record.researcher):
            if not check["passed"]:
                raise RuleBroken(f"{check['title']}: {check['message']}")
        rules = self.settings.rules()
        balance = self.ledger.balance(published.population)
        voters = self.voters(plan, published)
        if voters:
            self.ledger.vote(record.id, side=side, actor=actor, plan_digest=str(record.plan_digest))
            if {each.side for each in self.ledger.votes(record.id)} < set(voters):
                return self.ledger.get(record.id)
        elif side is not Side.OWNER:
            raise WrongStatus(f"The owner alone decides on request {record.id[:8]}: its ε needs no second reviewer.")
        return self.ledger.approve(
            record.id,
            actor=actor,
            plan_digest=str(record.plan_digest),
            charge=accountant.charge_for(plan.mechanism, balance.order),
            rounds=plan.rounds,
            expires_at=datetime.now(UTC) + timedelta(days=rules.approval_days),
            researcher_epsilon=rules.researcher_epsilon,
            voters=voters,
        )

    def at_once(self, record: CodeRequestRecord) -> tuple[RequestStatus | None, str]:
        """What the policy decides by itself on a checked request, with the reason for a denial; None leaves it."""
        if record.status is not RequestStatus.CHECKED or record.plan_json is None:
            return None, ""
        plan, published = plan_from(json.loads(record.plan_json)), self.published(version=record.version)
        rules = self.settings.rules()
        failed = [each for each in self.checks(plan, published, record.researcher) if not each["passed"]]
        if failed:
            why = " ".join(f"{each['title']}: {each['message']}" for each in failed)
            return (RequestStatus.DENIED, why) if rules.deny_at_once else (None, "")
        bound = rules.approve_at_once_epsilon
        small = bound is not None and self._epsilon(plan, published) <= bound
        return (RequestStatus.APPROVED, "") if small and not self.voters(plan, published) else (None, "")

    def voters(self, plan: Plan, published: Published) -> tuple[Side, ...]:
        """Whose votes an approval needs, where it needs two; else none: the owner's alone decides."""
        bound = self.settings.rules().second_reviewer_epsilon
        return tuple(Side) if bound is not None and self._epsilon(plan, published) > bound else ()

    def needs_typing(self, plan: Plan, published: Published) -> bool:
        """Whether whoever approves in the console or on the command line types the request's name."""
        return self._epsilon(plan, published) > self.settings.rules().typed_confirmation_epsilon

    def _epsilon(self, plan: Plan, published: Published) -> float:
        return accountant.epsilon_of(plan.mechanism, self.ledger.balance(published.population).budget.delta)

    def decision(
        self, record: CodeRequestRecord, plan: Plan | None, published: Published, side: Side | None
    ) -> dict[str, Any]:
        """Who must agree, what `side` has to do, and the votes: before the decision its own alone."""
        votes = self.ledger.votes(record.id)
        open_still = record.status is RequestStatus.CHECKED
        return {
            "voters": [each.value for each in self.voters(plan, published)] if plan and open_still else [],
            "typed": self.needs_typing(plan, published) if plan else False,
            "voted": any(each.side is side for each in votes),
            "votes": [asdict(each) for each in votes if not open_still or each.side is side],
        }

    def show(self, record: CodeRequestRecord, side: Side | None = Side.OWNER) -> dict[str, Any]:
        """Everything that a decision needs, as plain data, for whoever decides as `side`; None decides nothing."""
        plan = plan_from(json.loads(record.plan_json)) if record.plan_json else None
        published = self.published(version=record.version)
        balance = self.ledger.balance(published.population)
        cost = self.cost(plan, published, record.researcher) if plan else None
        return {
            **overview(record, plan),
            "version": record.version,
            "purpose": record.purpose,
            "source": record.source,
            "plan": plan.as_dict() if plan else None,
            "plan_digest": record.plan_digest,
            "summary": summary(plan, published) if plan else [],
            "risk": risk.risk_sentences(cost["epsilon"], cost["delta"], total=balance.budget) if cost else [],
            "cost": cost,
            "budgets": self._budgets(record, plan, published) if plan else [],
            "decision": self.decision(record, plan, published, side),
            "checks": self.checks(plan, published, record.researcher) if plan else [],
            "findings": json.loads(record.findings_json),
            "difference": self._difference(record),
            "comments": [asdict(each) for each in self.ledger.comments(record.id)],
            "rounds": [
                {"round": run.round, "status": run.status.value, "owner_note": run.reason or ""}
                for run in self.ledger.runs(record.id)
            ],
        }

    def _budgets(self, record: CodeRequestRecord, plan: Plan, published: Published) -> list[dict[str, Any]]:
        """The population's and the researcher's ε, spent, reserved and after this request."""
        limit = self.settings.rules().researcher_epsilon
        whole = self.ledger.balance(published.population)
        own = self.ledger.researcher_balance(published.population, record.researcher, limit=limit)
        charge = accountant.charge_for(plan.mechanism, whole.order)
        rows = []
        for whose, name, balance in (
            ("population", published.population, whole),
            ("researcher", record.researcher, own),
        ):
            rows.append(
                {
                    "whose": whose,
                    "name": name,
                    "epsilon": balance.budget.epsilon,
                    "spent": balance.epsilon_spent,
                    "reserved": balance.epsilon_reserved,
                    **before_and_after(balance, charge, plan.rounds),
                }
            )
        return rows

    def _difference(self, record: CodeRequestRecord) -> list[str]:
        earlier = [
            each
            for each in self.ledger.list(researcher=record.researcher)
            if each.function == record.function and each.charge_json and each.id != record.id
        ]
        if not earlier:
            return []
        lines = difflib.unified_diff(
            earlier[-1].source.splitlines(), record.source.splitlines(), earlier[-1].id[:8], record.id[:8], lineterm=""
        )
        return list(lines) or ["(none)"]


def _model_text(plan: Plan) -> str:
    if plan.graph is None:
        return "there is no model"
    return f"{len(plan.graph.nodes)} operators, all of them allowed; it sees one record at a time"


def before_and_after(balance: Balance, charge: accountant.Charge, rounds: int) -> dict[str, Any]:
    """A population's ε with everything reserved, before and after `rounds` times `charge`, and whether it fits."""
    before = balance.epsilon_spent + balance.epsilon_reserved
    used = balance.spent_nano + balance.reserved_nano
    total = charge.divergence_nano * rounds
    conversion = nano_down(balance.budget.epsilon) - balance.capacity_nano
    after = (used + total + conversion) / NANO
    if charge.pure_epsilon_nano is not None:
        after = min(after, before + charge.pure_epsilon_nano * rounds / NANO)
    short = max(0, used + total - balance.capacity_nano) / NANO
    return {"spent_before": before, "spent_after": after, "fits": short == 0, "short": short}


def published_from(record: DatasetRecord) -> Published:
    """The public side of a dataset as the ledger keeps it."""
    return Published(
        name=record.name,
        version=record.version,
        population=record.population,
        schema=Schema.from_dict(json.loads(record.schema_json)),
        patients=int(record.patients or 0),
        size_kind=record.size_kind,
    )


def overview(record: CodeRequestRecord, plan: Plan | None) -> dict[str, Any]:
    """One line of the inbox."""
    mechanism = plan.declared if plan else None
    return {
        "id": record.id,
        "status": record.status.value,
        "researcher": record.researcher,
        "function": record.function,
        "dataset": record.dataset,
        "mechanism": mechanism.kind if mechanism else None,
        "epsilon": getattr(mechanism, "epsilon", None),
        "rounds": plan.rounds if plan else None,
        "submitted_at": record.submitted_at,
        "expires_at": record.expires_at,
    }


def summary(plan: Plan, published: Published) -> list[str]:
    """What a plan does, in plain words made from the plan alone."""
    mechanism, people = plan.mechanism, f"about {published.patients:,} patients ({SIZE_TEXT[published.size_kind]})"
    if isinstance(mechanism, DPSGD):
        assert plan.graph is not None
        return [
            (
                f"Trains {plan.model}, a model of {plan.graph.parameter_count:,} numbers, on {people}"
                f" for {_counted(mechanism.rounds, 'round')} of {_counted(mechanism.steps, 'step')}."
            ),
            (
                f"Each step looks at each patient with chance {mechanism.sampling_rate:g}, one record of theirs, and"
                f" adds noise of {mechanism.noise_multiplier:g} times the largest part that one patient can have."
            ),
            "What leaves: the model's numbers after each round.",
        ]
    if isinstance(mechanism, Evaluation):
        return [
            f"Scores {plan.model} on the held-out patients, {_counted(mechanism.rounds, 'time')}.",
            f"What leaves: noisy counts of scores per outcome in {mechanism.bins} bins.",
        ]
    asked = ", ".join(query.key.replace("/", " of ") for query in mechanism.queries)
    most = _counted(mechanism.records_per_patient, "record")
    return [
        f"Answers {_counted(len(mechanism.queries), 'statistic')} over {people}: {asked}.",
        f"At most {most} of each patient may count; Laplace noise is added to each statistic.",
    ]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def check_outputs(graph: Graph, mechanism: DPSGD | Evaluation, schema: Schema) -> None:
    """Raise `GraphRefused` unless the model's output fits its loss and the target's classes."""
    classes = len(schema.classes)
    wanted = classes if mechanism.loss == "cross_entropy" else 1
    numbers = 1
    for size in graph.output_shape:
        numbers *= size
    if wanted == 1 and classes != 2:
        raise GraphRefused(
            f"{mechanism.loss} is for two classes; {schema.target} has {classes}. Use loss='cross_entropy'."
        )
    if numbers != wanted:
        raise GraphRefused(
            f"The model answers {numbers} number(s) for a record; {mechanism.loss} wants {wanted}."
            " Change the last layer."
        )


def findings_of(error: InvalidRequest) -> list[dict[str, Any]]:
    """Why a source was refused, as plain data."""
    if isinstance(error, InspectionFailed):
        return [asdict(each) for each in error.findings]  # type: ignore[call-overload]
    code = "graph" if isinstance(error, GraphRefused) else "mechanism"
    return [_finding(code, error.public_message, "")]


def _finding(code: str, why: str, text: str) -> dict[str, Any]:
    return {"code": code, "line": 0, "column": 0, "text": text, "why": why, "instead": ""}


def _as_text(error: InvalidRequest) -> str:
    lines = [
        f"line {each['line']}, column {each['column']}: {each['text']}: {each['why']} {each['instead']}"
        if each["line"]
        else each["why"]
        for each in findings_of(error)
    ]
    return "Refused before anything was asked of the owner.\n" + "\n".join(lines)
