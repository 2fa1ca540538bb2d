"""The datasite's office: one object that holds ledger, review, runs and PySyft, and does what people ask of it.

`act` runs an owner's action by name; the other methods are what PySyft's side asks for a researcher. PySyft itself
takes seconds to start and is made when first needed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from cryptography.hazmat.primitives import serialization

from datasites.jobs.pool import KINDS, JobPool
from datasites.ledger.audit_log import AuditLog, os_user
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import STATUS_TEXT, CodeRequestRecord, Party, RequestStatus, Side
from datasites.logs import Shown
from datasites.operations.restore import open_witness
from datasites.people.accounts import Accounts
from datasites.people.invitations import Invitations
from datasites.people.notices import Notices
from datasites.review.mock_runs import Trials
from datasites.review.review import Review, overview, published_from
from datasites.review.rounds import Arrays, Runs
from datasites.settings import Settings, write_private
from policies.errors import DatasiteError, InvalidRequest, WrongStatus
from policies.release.plans import plan_from
from policies.text import check_visible

if TYPE_CHECKING:
    from datasites.door.syft.server import SyftDatasite

logger = logging.getLogger(__name__)
PROTOCOL = 1
BY_POLICY = "policy"  # who decided, where the owner's rules did
OWNER_HASH = "owner.hash"


class Office:
    """Everything of one datasite, in one process.

    Args:
      pool: where jobs run; the serving process starts its parents once.
    """

    def __init__(self, settings: Settings, ledger: Ledger, pool: JobPool) -> None:
        self.settings = settings
        self.ledger = ledger
        self.pool = pool
        self.audit = AuditLog(ledger)
        self.review = Review(settings, ledger, pool)
        self.notices = Notices(settings)
        self.runs = Runs(settings, ledger, pool, lambda asset: self.syft.records(asset))
        self.trials = Trials(settings, ledger, pool)
        self.holding_tables = threading.RLock()
        """Held by whoever copies tables, and by whoever deletes them."""
        self._syft: SyftDatasite | None = None

    @classmethod
    def create(cls, settings: Settings, *, owner_password: str) -> None:
        """Make the ledger in a new directory. The owner's account waits as a hash for PySyft's first start."""
        import bcrypt

        hashed = bcrypt.hashpw(owner_password.encode(), bcrypt.gensalt()).decode()
        write_private(settings.directory / OWNER_HASH, hashed)
        with cls(settings, Ledger.create(settings.ledger_path), _pool(settings)) as office:
            office.audit.record(os_user(), "init", settings.name)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The office of a directory, with its ledger made true again after whatever happened before.

        Raises `LedgerBehind` where the ledger is an older copy than its witness knows.
        """
        office = cls(settings, Ledger.open(settings.ledger_path), _pool(settings))
        try:
            open_witness(settings, office.ledger)
            recovery = office.ledger.recover()
        except BaseException:
            office.close()
            raise
        if recovery.failed or recovery.voided or recovery.unstaged:
            logger.warning(
                "After an interruption: %s round(s) failed with their charge kept, %s void, %s publication(s) undone.",
                *(Shown(len(each)) for each in (recovery.failed, recovery.voided, recovery.unstaged)),
            )
        return office

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every job and let go of the files."""
        self.trials.close()
        self.pool.stop()
        self.ledger.close()
        if self.ledger.witness is not None:
            self.ledger.witness.close()
            self.ledger.witness = None

    @functools.cached_property
    def accounts(self) -> Accounts:
        """Accounts and sessions of the console."""
        return Accounts(
            self.settings.directory / "console.db",
            self.settings.owner_email,
            idle_seconds=60 * self.settings.console_idle_minutes,
        )

    @functools.cached_property
    def invitations(self) -> Invitations:
        """Open invitations of researchers, in the same file."""
        return Invitations(self.settings.directory / "console.db")

    @property
    def syft(self) -> SyftDatasite:
        """PySyft on this directory; started when first needed."""
        if self._syft is None:
            from datasites.door.syft.server import SyftDatasite

            self._syft = SyftDatasite(self.settings, self)
            waiting = self.settings.directory / OWNER_HASH
            if waiting.exists():
                self._syft.set_password_hash(self.settings.owner_email, waiting.read_text(encoding="utf-8"))
                waiting.unlink()
        return self._syft

    def start_serving(self) -> dict[str, bool]:
        """Warm the parents, start PySyft, write the ledger's statuses into it; returns the protections that hold."""
        warming = threading.Thread(target=self.pool.start)  # both import for seconds, on processors of their own
        warming.start()
        known_to_syft = self.syft
        warming.join()
        protections = self.pool.protections()
        self.review.more_checks.append(lambda plan, published: isolation_check(self.settings, protections))
        self.review.check_submitted()
        known = {each.id: each for each in self.ledger.list()}
        self.forget_tables()
        known_to_syft.forget_requests(keep=set(known))
        for record in known.values():
            self._project(record)
            if record.status is RequestStatus.CHECKED and self.trials.of(record.id) is None:
                self.trials.start(record)
        return protections

    def forget_tables(self) -> None:
        """Delete from PySyft the private tensors of versions that are not published (any more).

        Where PySyft fails at it, nothing reads them, as the ledger knows no such version; the next start tries again.
        """
        published = {asset for each in self.ledger.datasets() for asset in json.loads(each.assets_json).values()}
        try:
            with self.holding_tables:
                self.syft.forget_datasets(keep=published)
        except Exception:  # a datasite that will not start would hurt more than a file that waits for its deletion
            logger.exception("A table that is no longer published could not be deleted; the next start tries again.")

    def act(self, action: str, actor: str, arguments: dict[str, Any]) -> Any:
        """Run an owner's action by name and record it. Raises `InvalidRequest` where there is none of that name."""
        from datasites.actions.actions import ACTIONS

        found = ACTIONS.get(action)
        if found is None:
            raise InvalidRequest(f"There is no action {action!r}.")
        return found(self, actor, **arguments)

    # -- for researchers, through PySyft -----------------------------------------------------------------------------

    def describe(self, researcher: str) -> dict[str, Any]:
        """Name, public key, datasets with schemas and public sizes, and budgets left."""
        limit = self.settings.rules().researcher_epsilon
        datasets, budgets = [], {}
        sizes = self._size_certificates()
        for record in self.ledger.datasets():
            published = published_from(record)
            datasets.append(
                {
                    "name": published.name,
                    "version": published.version,
                    "population": published.population,
                    "schema": published.schema.as_dict(),
                    "patients": published.patients,
                    "size_kind": published.size_kind,
                    "training_patients": published.training_patients,
                    "asset": json.loads(record.assets_json)["records"],
                    "size_certificate": sizes.get(record.version),
                }
            )
            own = self.ledger.researcher_balance(published.population, researcher, limit=limit)
            budgets[published.population] = {
                **balance_dict(self.ledger, published.population),
                "researcher_epsilon_remaining": own.epsilon_remaining,
            }
        return {
            "name": self.settings.name,
            "protocol": PROTOCOL,
            "public_key": self.public_key(),
            "datasets": datasets,
            "budgets": budgets,
        }

    def _size_certificates(self) -> dict[str, str]:
        """The certificate of each version's DP count of patients, by version."""
        counts = {each.id: each.version for each in self.ledger.list(by_owner=True)}
        return {
            counts[each["request"]]: each["certificate"] for each in self.ledger.releases() if each["request"] in counts
        }

    def quote(self, researcher: str, source: str, dataset: str) -> dict[str, Any]:
        """Findings, plan and cost of a source, before it is submitted."""
        return self.review.quote(source, dataset, researcher)

    def submit(
        self, researcher: str, source: str, asset: str, purpose: str, store: Callable[[], dict[str, str]]
    ) -> None:
        """Inspect and record a request; `store` keeps it in PySyft."""
        record = self.review.submit(researcher, source, asset, purpose, store)
        self.audit.record(researcher, "submit", record.id, function=record.function, dataset=record.dataset)
        self._decide_at_once(record)
        if self.ledger.get(record.id).status is RequestStatus.CHECKED:
            self.notices.waits(record)
            self.trials.start(record)

    def _decide_at_once(self, record: CodeRequestRecord) -> None:
        """What the policy decides without anybody, both off by default. What cannot be decided so waits for people."""
        try:
            verdict, why = self.review.at_once(record)
            if verdict is RequestStatus.DENIED:
                self.decide(record.id, verdict, BY_POLICY, why)
            elif verdict is RequestStatus.APPROVED:
                self.approve_code(record.id, BY_POLICY, record.plan_digest)
        except DatasiteError as error:
            logger.warning(
                "The policy decided nothing on request %s: %s", Shown(record.id[:8]), Shown(type(error).__name__)
            )

    def ask(self, researcher: str, code: str, round_number: int, weights: Arrays) -> dict[str, Any]:
        """A round of the researcher's own approved request."""
        return self.runs.ask(self._own(researcher, code), round_number, weights)

    def status(self, researcher: str, code: str) -> dict[str, Any]:
        """Where the researcher's own request stands, in fixed texts and what people wrote."""
        self.ledger.expire_due()
        record = self._own(researcher, code)
        comments = self.ledger.comments(record.id)
        return {
            "request": record.id,
            "function": record.function,
            "status": record.status.value,
            "text": STATUS_TEXT[record.status],
            "comment": comments[-1].text if comments else "",
            "findings": json.loads(record.findings_json),
            "rounds": [{"round": run.round, "status": run.status.value} for run in self.ledger.runs(record.id)],
            "expires": record.expires_at,
            "plan_digest": record.plan_digest,
            "purpose": record.purpose,
        }

    def requests_of(self, researcher: str) -> list[dict[str, Any]]:
        """The researcher's own requests."""
        return [_overview(each) for each in self.ledger.list(researcher=researcher)]

    def withdraw(self, researcher: str, code: str) -> dict[str, Any]:
        """Take the researcher's own request back."""
        record = self._own(researcher, code)
        self.ledger.transition(record.id, RequestStatus.WITHDRAWN, actor=researcher, party=Party.RESEARCHER)
        self.audit.record(researcher, "withdraw", record.id)
        return self.status(researcher, code)

    def certificates(self, researcher: str, code: str) -> list[str]:
        """Certificates of the researcher's own releases, oldest first."""
        return [each["certificate"] for each in self.ledger.releases(self._own(researcher, code).id)]

    def _own(self, researcher: str, code: str) -> CodeRequestRecord:
        """The caller's own request; another's is answered as one that does not exist."""
        try:
            record = self.ledger.get(code)
        except InvalidRequest:
            record = None
        if record is None or record.researcher != researcher:
            raise InvalidRequest("You have no such request here. `client.api.services.datasite.requests()` lists them.")
        return record

    # -- decisions, also of a stock PySyft owner -----------------------------------------------------------------------

    def approve_code(self, code: str, actor: str, plan_digest: str | None = None, side: Side = Side.OWNER) -> str:
        """Approve: every check, the whole cost reserved, then PySyft's status follows. What was done, in a sentence.

        Where two people must agree and one has yet to vote, this is a vote; it is logged once both have voted.
        """
        record = self.review.approve(self.ledger.get(code), actor=actor, plan_digest=plan_digest, side=side)
        if record.status is RequestStatus.CHECKED:
            return "Your vote is kept, sealed. Nothing is approved until the other person has voted as well."
        self.audit.record(actor, "approve", record.id, plan_digest=record.plan_digest, **self._opened_votes(record.id))
        self._project(record)
        return "Approved; the whole cost is reserved in the ledger."

    def _opened_votes(self, request: str) -> dict[str, Any]:
        """The votes on a request that is decided, for the log."""
        votes = [{"who": each.actor, "side": each.side.value, "at": each.at} for each in self.ledger.votes(request)]
        return {"votes": votes} if votes else {}

    def deny_code(self, code: str, actor: str, reason: str) -> None:
        """Deny a waiting request, or revoke an approved one."""
        status = self.ledger.get(code).status
        to = RequestStatus.REVOKED if status is RequestStatus.APPROVED else RequestStatus.DENIED
        self.decide(code, to, actor, reason)

    def decide(self, code: str, to: RequestStatus, actor: str, comment: str) -> None:
        """Deny, ask for changes or revoke, with a comment that the researcher reads."""
        if to is RequestStatus.DENIED and self.ledger.get(code).status is RequestStatus.APPROVED:
            raise WrongStatus(f"Request {code[:8]} is approved already. `datasite revoke {code[:8]}` takes that back.")
        comment = comment.replace("\r\n", "\n")  # as browsers send it
        check_visible(comment, "The comment")
        record = self.ledger.transition(code, to, actor=actor, comment=comment, party=Party.OWNER)
        self.audit.record(actor, to.value, record.id, **self._opened_votes(record.id))
        self._project(record)

    def _project(self, record: CodeRequestRecord) -> None:
        """Write a status into PySyft, where PySyft is running and knows the request."""
        request = json.loads(record.syft_json).get("request")
        if self._syft is None or not request or record.status in (RequestStatus.SUBMITTED, RequestStatus.CHECKED):
            return
        approved = record.status in (RequestStatus.APPROVED, RequestStatus.COMPLETED)
        with contextlib.suppress(Exception):  # a projection for display; the ledger has decided
            self._syft.project_status(request, approved=approved, reason=STATUS_TEXT[record.status])

    def public_key(self) -> str:
        """Hex of the Ed25519 key that verifies this datasite's certificates."""
        key = self.settings.signing_key().public_key()
        return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def isolation_check(settings: Settings, protections: dict[str, bool]) -> dict[str, Any]:
    """Whether jobs on this host are held as the settings require, as a check among the others."""
    missing = [name.replace("_", " ") for name, holds in protections.items() if not holds]
    if not missing:
        text = f"all {len(protections)} protections hold for jobs on this host"
    else:
        text = f"missing on this host: {', '.join(missing)}"
    accepted = not missing or settings.isolation == "reported" or missing == ["own user"]
    return {"title": "Isolation", "passed": accepted, "message": text}


def balance_dict(ledger: Ledger, population: str) -> dict[str, Any]:
    """A population's budget as plain data in ε."""
    balance = ledger.balance(population)
    return {
        "population": population,
        "epsilon": balance.budget.epsilon,
        "delta": balance.budget.delta,
        "order": balance.order,
        "epsilon_spent": balance.epsilon_spent,
        "epsilon_reserved": balance.epsilon_reserved,
        "epsilon_remaining": balance.epsilon_remaining,
        "share_left": balance.share_left,
    }


def _overview(record: CodeRequestRecord) -> dict[str, Any]:
    return overview(record, plan_from(json.loads(record.plan_json)) if record.plan_json else None)


def _pool(settings: Settings) -> JobPool:
    sockets = {kind: settings.job_socket(kind) for kind in KINDS}
    required, here = settings.isolation == "required", not settings.jobs_directory
    return JobPool(sockets, required=required, start_parents=here)
