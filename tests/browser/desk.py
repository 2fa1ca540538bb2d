"""A console in this process, on a real ledger and real accounts, with a stand-in for PySyft's accounts alone."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from datasites.actions.registry import act
from datasites.console.app import make_console
from datasites.console.news import News
from datasites.datasite import Datasite
from datasites.directory import create_directory
from datasites.door.app import LockOut
from datasites.jobs.pool import Answer, JobPool
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord, DatasetRecord
from datasites.ledger.store import utc_now
from datasites.people.accounts import SCRYPT, hash_password
from datasites.people.roles import Actor, Role
from datasites.review.policy import DEFAULT_POLICY
from policies.canonical import canonical
from policies.privacy import accountant
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Query, Statistics
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release.plans import Plan
from policies.release.tensors import to_bytes
from policies.schema.schemas import Schema
from tests.factories import PASSWORD, RESEARCHER, SCHEMA, statistics_source

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have httpx2, which is not locked
    import anyio._backends._asyncio  # noqa: F401  # what the client would import under Playwright's switched stack
    from starlette.testclient import TestClient

OWNER, REVIEWER, AUDITOR = "owner@hospital.example", "reviewer@hospital.example", "auditor@hospital.example"
EMAILS = {Role.OWNER: OWNER, Role.SECOND_REVIEWER: REVIEWER, Role.AUDITOR: AUDITOR}
VERSION = "a1b2c3d4"


@cache  # a quarter of a second each, and hundreds of tests make a desk
def _hashed_at(password: str, cost: tuple[tuple[str, int], ...]) -> str:
    return hash_password(password)


def _hashed_once(password: str) -> str:
    """A hash at the cost of now, which fixtures make cheap."""
    return _hashed_at(password, tuple(SCRYPT.items()))


@dataclass
class PySyftAccounts:
    """What the console asks of PySyft: whose password is right, and who the researchers are."""

    passwords: dict[str, str] = field(default_factory=lambda: {OWNER: PASSWORD, RESEARCHER: PASSWORD})
    names: dict[str, str] = field(default_factory=lambda: {RESEARCHER: "Some Body"})
    institutions: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def login(self, email: str, password: str) -> bytes | None:
        return b"key" if self.passwords.get(email) == password else None

    def researchers(self) -> list[dict[str, str]]:
        return [
            {
                "email": email,
                "name": name,
                "institution": self.institutions.get(email, ""),
                "state": self.states.get(email, "active"),
            }
            for email, name in self.names.items()
        ]

    def add_researcher(self, email: str, name: str, password: str, institution: str = "") -> None:
        self.names[email], self.passwords[email], self.institutions[email] = name, password, institution

    def disable_researcher(self, email: str) -> None:
        self.states[email] = "disabled"

    def enable_researcher(self, email: str) -> None:
        self.states[email] = "active"

    def set_password(self, email: str, password: str) -> None:
        self.passwords[email] = password

    def mock(self, asset: str) -> Any:
        raise KeyError(asset)

    def project_status(self, request: str, **_: Any) -> None: ...


class Desk:
    """A datasite without a server, its console, and requests that wait. `clock.now` is the lock-out's, in seconds."""

    def __init__(self, directory: Path) -> None:
        settings = create_directory(
            directory, name="Test Hospital", host="127.0.0.1", port=9400, owner_email=OWNER, policy=DEFAULT_POLICY
        )
        ledger = Ledger.create(settings.ledger_path)
        self.syft = PySyftAccounts()
        pool = JobPool({}, start_parents=False)
        self.datasite = Datasite(settings, ledger, pool, lambda datasite: self.syft)  # type: ignore[arg-type, return-value]
        self.clock = SimpleNamespace(now=1000.0)
        lock_out = LockOut(clock=lambda: self.clock.now)
        self.app = make_console(
            self.datasite, lock_out, News(self.datasite, longest=0)
        )  # a stream says what is new, and ends
        with mock.patch("datasites.people.accounts.hash_password", _hashed_once):
            for role in (Role.SECOND_REVIEWER, Role.AUDITOR):
                self.datasite.accounts.add(EMAILS[role], "", role, PASSWORD)
        self.schema = Schema.from_toml(SCHEMA)
        ledger.budgets.create_population(self.schema.population, PrivacyBudget(6.0, 1e-5))
        ledger.datasets.publish(
            DatasetRecord(
                "flu", VERSION, self.schema.population, canonical(self.schema.as_dict()).decode(), 400, "declared"
            ),
            actor="owner",
        )

    def act(self, action: str, arguments: dict[str, Any], *, role: Role = Role.OWNER) -> Any:
        """An action by name, as somebody of a role does it."""
        return act(self.datasite, action, Actor(EMAILS.get(role, RESEARCHER), role), arguments)

    def close(self) -> None:
        self.datasite.accounts.close()
        self.datasite.invitations.close()
        self.datasite.close()

    def ask(
        self,
        id: str,
        *,
        epsilon: float = 0.2,
        purpose: str = "To count.",
        function: str = "flu_counts",
        researcher: str = RESEARCHER,
        queries: tuple[Query, ...] = (Query("count"),),
        secure_aggregation: SecureAggregation | None = None,
    ) -> str:
        """A statistics request that waits for a decision."""
        mechanism = Statistics(queries=queries, epsilon=epsilon, secure_aggregation=secure_aggregation)
        plan = Plan(
            function=function, mechanism=mechanism, model=None, graph=None, source_sha256="0" * 64, dataset="flu",
            version=VERSION, declared=mechanism,
        )  # fmt: skip
        source = statistics_source(function, epsilon=epsilon)
        record = CodeRequestRecord(
            id=id, function=function, researcher=researcher, dataset="flu", version=VERSION,
            population=self.schema.population, source=source, purpose=purpose,
        )  # fmt: skip
        self.datasite.ledger.requests.submit(record)
        return self.datasite.ledger.requests.check(id, plan).id

    def release(self, request: str, tensors: dict[str, Any], *, rounds: int = 1) -> None:
        """Approve a request that waits, and settle its first round with these tensors."""
        ledger = self.datasite.ledger
        plan = ledger.requests.get(request).plan
        assert plan is not None
        charge = accountant.charge_for(plan.mechanism, ledger.budgets.balance(self.schema.population).order)
        until = utc_now() + timedelta(days=9)
        ledger.approve(
            request, actor=OWNER, plan_digest=plan.digest, charge=charge, rounds=rounds, expires_at=until
        )  # fmt: skip
        run = ledger.runs.start(ledger.runs.admit(request, 1, "0" * 64, charge).id)
        published = self.datasite.planner.published(version=VERSION)
        answer = Answer({"event": "done"}, to_bytes(tensors), {})
        self.datasite.rounds.settle(run, plan, published, RESEARCHER, answer)

    def browser(self, role: Role | None = None, *, address: str = "http://testserver") -> Browser:
        """A browser, signed in where a role is given."""
        return Browser(self, role, address)


class Browser:
    """What a browser does, without one: keeps cookies, and sends forms with their token."""

    def __init__(self, desk: Desk, role: Role | None, address: str) -> None:
        self.desk = desk
        self.client = TestClient(desk.app, base_url=address, follow_redirects=False)
        self.csrf = ""
        if role is not None:
            answer = self.sign_in(EMAILS[role])
            assert answer.status_code == 303, answer.text
            self.csrf = self.token("/account")

    def sign_in(self, email: str, password: str = PASSWORD, *, to: str = "/") -> Any:
        found = re.search(r'name="token" value="([^"]+)"', self.client.get("/sign-in").text)
        fields = {"token": found[1] if found else "", "email": email, "password": password, "next": to}
        return self.client.post("/sign-in", data=fields)

    def token(self, address: str) -> str:
        """The CSRF token in a page's forms."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.client.get(address).text)
        assert found is not None
        return found[1]

    def get(self, address: str, **more: Any) -> Any:
        return self.client.get(address, **more)

    def post(self, address: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        return self.client.post(address, data={"csrf": self.csrf, **fields}, headers=headers or {})
