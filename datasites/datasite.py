"""One datasite's parts, put together: ledger, review, rounds, people, tables and PySyft. No decision is made here.

PySyft itself takes seconds to import and start, so it is made by a function that is given, when it is first needed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import serialization

from datasites.directory import signing_key
from datasites.files import write_private
from datasites.jobs.elsewhere import JobMachine
from datasites.jobs.pool import KINDS, JobPool
from datasites.ledger.audit_log import AuditLog, os_user
from datasites.ledger.database import ledger_place
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from datasites.logs import Shown
from datasites.operations.restore import open_witness
from datasites.people.accounts import Accounts
from datasites.people.invitations import Invitations
from datasites.people.notices import Notices
from datasites.people.places import accounts_place, open_rows
from datasites.review.decisions import Decisions
from datasites.review.mock_runs import MockRuns
from datasites.review.planning import Planner
from datasites.review.policy import isolation_outcome
from datasites.review.rounds import Rounds
from datasites.review.submissions import SubmissionQuotas, Submissions
from datasites.review.two_people import TwoPeople
from datasites.settings import Settings
from datasites.vault.tensor_files import forget_tensors
from policies.errors import DatasiteError
from policies.source.statuses import STATUS_TEXT, RequestStatus

logger = logging.getLogger(__name__)
OWNER_HASH = "owner.hash"


class PySyft(Protocol):
    """What a datasite asks of PySyft: accounts of researchers, stored tables and mocks, and a status to show."""

    def login(self, email: str, password: str) -> bytes | None: ...
    def add_researcher(self, email: str, name: str, password: str, institution: str = "") -> None: ...
    def researchers(self) -> list[dict[str, str]]: ...
    def disable_researcher(self, email: str) -> None: ...
    def enable_researcher(self, email: str) -> None: ...
    def set_password(self, email: str, password: str) -> None: ...
    def set_password_hash(self, email: str, hashed: str) -> None: ...
    def upload(
        self, name: str, description: str, private: npt.NDArray[np.float64], mock: npt.NDArray[np.float64]
    ) -> str: ...
    def records(self, asset: str) -> npt.NDArray[np.float64]: ...
    def mock(self, asset: str) -> npt.NDArray[np.float64]: ...
    def forget_datasets(self, *, keep: set[str]) -> None: ...
    def forget_requests(self, *, keep: set[str]) -> None: ...
    def project_status(self, request: str, *, approved: bool, reason: str = "") -> None: ...


class Datasite:
    """Everything of one datasite, in one process.

    Args:
      pool: where jobs run; the serving process starts its parents once.
      start_pysyft: makes PySyft on this datasite.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, pool: JobPool, start_pysyft: Callable[[Datasite], PySyft]
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.pool = pool
        self.audit_log = AuditLog(ledger.store)
        self.planner = Planner(
            ledger, pool, exporter_seconds_per_hour=settings.exporter_seconds_per_hour, public_key=self.public_key
        )
        self.two_people = TwoPeople(self.audit_log, settings.policy_path, lambda: self.accounts)
        self.decisions = Decisions(
            ledger,
            self.planner,
            self.audit_log,
            self.two_people.read,
            is_voter=self.two_people.is_voter,
            changed=self.project,
        )
        quotas = SubmissionQuotas(
            open_requests=settings.open_requests,
            requests_per_day=settings.requests_per_day,
            refused_bytes_per_day=settings.refused_kib_per_day << 10,
        )
        self.submissions = Submissions(ledger, self.planner, self.decisions, quotas)
        self.notices = Notices(settings)
        self.rounds = Rounds(settings, ledger, pool, lambda asset: self.syft.records(asset))
        self.mock_runs = MockRuns(settings, ledger, pool)
        self.holding_tables = threading.RLock()
        """Held by whoever copies tables, and by whoever deletes them."""
        self.publishing: set[str] = set()
        """Versions that are being written and that the ledger does not know as published yet."""
        self._start_pysyft = start_pysyft
        self._syft: PySyft | None = None

    @classmethod
    def create(cls, settings: Settings, *, owner_password: str) -> None:
        """Make the ledger in a new directory. The owner's account waits as a hash for PySyft's first start."""
        import bcrypt

        hashed = bcrypt.hashpw(owner_password.encode(), bcrypt.gensalt()).decode()
        write_private(settings.directory / OWNER_HASH, hashed)
        with Ledger.create(ledger_place(settings)) as ledger:
            if settings.ledger:  # its team may take away, now, the right to make tables
                open_rows(accounts_place(settings)).close()
            AuditLog(ledger.store).record(os_user(), "init", settings.name)

    @classmethod
    def open(cls, settings: Settings, start_pysyft: Callable[[Datasite], PySyft]) -> Self:
        """The datasite of a directory, with its ledger made true again after whatever happened before.

        Raises `LedgerBehind` where the ledger is an older copy than its witness knows.
        """
        ledger, _ = ledger_place(settings), accounts_place(settings)  # before anything is made in either
        datasite = cls(settings, Ledger.open(ledger), _pool(settings), start_pysyft)
        try:
            open_witness(settings, datasite.ledger)
            recovery = datasite.ledger.recover()
        except BaseException:
            datasite.close()
            raise
        if recovery.failed or recovery.voided or recovery.unstaged:
            logger.warning(
                "After an interruption: %s round(s) failed with their charge kept, %s void, %s publication(s) undone.",
                *(Shown(len(ended)) for ended in (recovery.failed, recovery.voided, recovery.unstaged)),
            )
        return datasite

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every job and let go of the files."""
        self.mock_runs.close()
        self.pool.stop()
        self.rounds.tables.close()
        self.ledger.close()
        for name in ("accounts", "invitations"):
            if name in self.__dict__:  # opened, as cached properties are
                getattr(self, name).close()
        if self.ledger.witness is not None:
            self.ledger.witness.close()
            self.ledger.witness = None

    @functools.cached_property
    def accounts(self) -> Accounts:
        """Accounts and sessions of the console."""
        return Accounts(
            accounts_place(self.settings),
            self.settings.owner_email,
            idle_seconds=60 * self.settings.console_idle_minutes,
        )

    @functools.cached_property
    def invitations(self) -> Invitations:
        """Open invitations of researchers, in the same place."""
        return Invitations(accounts_place(self.settings))

    @property
    def syft(self) -> PySyft:
        """PySyft on this directory; started when first needed."""
        if self._syft is None:
            self._syft = self._start_pysyft(self)
            waiting = self.settings.directory / OWNER_HASH
            if waiting.exists():
                self._syft.set_password_hash(self.settings.owner_email, waiting.read_text(encoding="utf-8"))
                waiting.unlink()
        return self._syft

    @property
    def is_serving(self) -> bool:
        """Whether PySyft runs on this directory, as it does while it is served."""
        return self._syft is not None

    def start_serving(self) -> dict[str, bool]:
        """Warm the parents, start PySyft, write the ledger's statuses into it; returns the protections that hold."""
        with ThreadPoolExecutor(1) as warming:  # both import for seconds, on processors of their own
            started = warming.submit(self.pool.start)
            syft = self.syft
            self._check_tables_fit()
            started.result()
        protections = self.pool.protections()
        self.decisions.host_checks.append(lambda: isolation_outcome(self.settings.isolation, protections))
        self.submissions.check_submitted()
        known = {record.id: record for record in self.ledger.requests.list()}
        self.forget_tables()
        syft.forget_requests(keep=set(known))
        for record in known.values():
            self.project(record)
            if record.status is RequestStatus.CHECKED and self.mock_runs.of(record.id) is None:
                self.mock_runs.start(record)
        return protections

    def _check_tables_fit(self) -> None:
        """Raise `DatasiteError` where a table has more records than are sent to a runner elsewhere.

        Found out now and at publication, and not by a round, whose researcher would learn it.
        """
        if not self.settings.runner_address:
            return
        most = self.settings.runner_records
        for record in self.ledger.datasets.list():
            if len(self.syft.records(record.assets["records"])) > most:
                raise DatasiteError(
                    f"The table {record.name!r} has more records than runner_records={most}: as many as each round"
                    f" sends to the runner at {self.settings.runner_address}. Raise it in settings.toml."
                )

    def forget_tables(self) -> None:
        """Close and delete the private rows of versions that are not published (any more).

        Where PySyft fails at it, nothing reads them, as the ledger knows no such version; the next start tries again.
        """
        self.rounds.tables.close_unwanted()
        datasets = self.ledger.datasets.list()
        published = {asset for dataset in datasets for asset in dataset.assets.values()}
        try:
            with self.holding_tables:
                known = {dataset.version for dataset in datasets} | self.publishing
                forget_tensors(self.settings.directory, keep=known)
                self.rounds.parts.forget_unused([dataset.version for dataset in datasets])
                self.syft.forget_datasets(keep=published)
        except Exception:  # a datasite that will not start would hurt more than a file that waits for its deletion
            logger.exception("A table that is no longer published could not be deleted; the next start tries again.")

    def project(self, record: CodeRequestRecord) -> None:
        """Write a status into PySyft, where PySyft is running and knows the request; what a study left goes with it."""
        self.rounds.parts.forget_if_over(record.id)
        request = record.syft.get("request")
        if self._syft is None or not request or record.status in (RequestStatus.SUBMITTED, RequestStatus.CHECKED):
            return
        approved = record.status in (RequestStatus.APPROVED, RequestStatus.COMPLETED)
        with contextlib.suppress(Exception):  # a projection for display; the ledger has decided
            self._syft.project_status(request, approved=approved, reason=STATUS_TEXT[record.status])

    def public_key(self) -> str:
        """Hex of the Ed25519 key that verifies this datasite's certificates."""
        key = signing_key(self.settings.directory).public_key()
        return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def _pool(settings: Settings) -> JobPool:
    sockets = {kind: settings.job_socket(kind) for kind in KINDS}
    required, here = settings.isolation == "required", not settings.jobs_directory
    return JobPool(
        sockets,
        required=required,
        start_parents=here,
        start_seconds=settings.start_seconds,
        training_threads=settings.training_threads,
        elsewhere=machines(settings),
        records=settings.runner_records,
    )


def machines(settings: Settings) -> dict[str, JobMachine]:
    """The machines elsewhere that run jobs, by kind."""
    return {
        kind: JobMachine(kind, address, settings.elsewhere, settings.job_certificate(kind))
        for kind, address in settings.job_addresses.items()
    }
