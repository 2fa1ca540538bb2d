"""Rounds of approved requests: check the weights, admit, start, run, settle, and answer from what is stored.

From the moment that private rows are handed over, what a researcher can see (status, charge, shape, error text) is a
function of public inputs alone: the plan, the weights, the ledger. Diagnostics go to the owner, into the run's reason.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.directory import signing_key
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.files import write_private
from datasites.jobs.pool import Answer, JobPool
from datasites.jobs.rows import Entries, Layout, PublicTime
from datasites.ledger.entries import Entry
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord, Run
from datasites.logs import Shown
from datasites.review.model_parts import ModelParts
from datasites.review.planning import published_from
from datasites.review.public_times import PublicTimes
from datasites.review.secure_rounds import SecureRounds
from datasites.review.shared_noise import is_accepted
from datasites.review.timing import slowest
from datasites.settings import Settings
from datasites.vault.local_heads import local_shapes
from datasites.vault.private_rows import PublishedRows
from datasites.vault.tensor_files import OpenTensor, open_tensors, stored_dtype
from policies.errors import DatasiteError, Unavailable, WeightsRefused, WrongStatus
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Regression, Statistics, as_dict
from policies.release.certificates import make_certificate, sign
from policies.release.plans import Plan, Published, answer_shapes, release_shapes
from policies.release.tensors import check_tensors, digest, from_bytes, to_bytes
from policies.schema.schemas import FIRST_COLUMN, Schema
from policies.source.statuses import RequestStatus, RunStatus

logger = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]
DEADLINE_MARGIN = 10.0  # deadline over the dry run's time
LEAST_DEADLINE = 60.0
SHOWN_MARGIN = 1.5  # when a release is shown, over the dry run's time
SENT_AT = 0.9  # of the time at which a release is shown: when a runner elsewhere sends it
SHOWN_BESIDES = 0.04  # seconds of the ledger's durable entry, and of what else such a machine does
REHEARSED_WITHIN = 600.0
MOST_JOBS = 2
JOB_MEMORY = 8 << 30  # the same whatever the table holds
STOPPED_WITHIN = 5.0  # seconds that a stop waits for jobs to let go of their rows; a stop reaches one in 0.25
ENDED = (RunStatus.FAILED, RunStatus.VOID)
JOB_OF = {
    DPSGD.kind: "train",
    Evaluation.kind: "evaluate",
    Statistics.kind: "statistics",
    KaplanMeier.kind: "analyse",
    Regression.kind: "analyse",
}


@dataclass(frozen=True)
class Stopped:
    """What a stop found: how many rounds it ended, and how many had ended by themselves when it came."""

    ended: int
    by_themselves: int


class Rounds:
    """Runs rounds in threads of the datasite process, one runner child each.

    Args:
      load: the private rows of an asset id.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, pool: JobPool, load: Callable[[str], npt.NDArray[np.float64]]
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.pool = pool
        self.load = load
        self.parts = ModelParts(settings, ledger)
        self.stopped = threading.Event()
        self._stop_file = settings.directory / "stopped"  # a stop outlives a restart
        if self._stop_file.exists():
            self.stopped.set()
        self._ending: set[str] = set()  # runs that are to end unreleased, whatever their jobs answer
        self._settling: set[str] = set()  # runs whose release is being written: too late to end them
        self._working: set[str] = set()  # runs whose job may hold rows
        self._researchers: dict[str, str] = {}  # by run under way: whose it is
        self._ends = 0  # how often runs were ended: what was asked for before the last time begins no more
        self._told: set[str] = set()
        self.times = PublicTimes()
        self.secure = SecureRounds(settings, ledger)
        self.tables = PublishedRows(self._read_rows, self._wants_rows, self._open_tensors)
        self._rehearsed: dict[str, float] = {}
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(MOST_JOBS)
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # of a researcher's own rounds
        self._threads: dict[str, threading.Thread] = {}

    # -- asking --------------------------------------------------------------------------------------------------

    def ask(self, record: CodeRequestRecord, round_number: int, weights: Arrays) -> dict[str, Any]:
        """The release of a round, or where it stands and when it may show; starts it where it may start.

        Waits for nothing but the writing of a release whose time has come.

        Raises:
          WeightsRefused: before anything is charged.
          WrongStatus: not approved, another round's weights, attempts used up, or the datasite is stopped.
        """
        plan = record.plan
        if plan is None:
            raise WrongStatus(f"Request {record.id[:8]} is {record.status} and has no plan to run.")
        check_weights(plan, weights)
        ends = self._ends
        self.check_not_stopped()
        weights_digest = digest(weights)
        self.secure.check_ready(record, plan, round_number, weights_digest)
        last = self._last_run(record, round_number)
        if last is not None and last.status in ENDED and self._is_news(last, weights_digest):
            return _without_release(last)
        if last is None or last.status is not RunStatus.RELEASED:
            self.parts.check_ready(record, plan, round_number, weights_digest)
        order = self.ledger.budgets.balance(str(record.population)).order
        charge = accountant.charge_for(plan.mechanism, order, accepted=is_accepted(record))
        run = self.ledger.runs.admit(record.id, round_number, weights_digest, charge)
        if run.status is RunStatus.RELEASED:
            return self._released(record, run)
        if run.status is RunStatus.RESERVED:
            self._begin(record, plan, run, weights, ends)
        return self._running(run)

    def look(self, record: CodeRequestRecord, round_number: int, weights_digest: str) -> dict[str, Any]:
        """Where a round stands that was asked for with weights of this digest; starts nothing.

        `void` where no such round is under way or released: to ask for it begins it.

        Raises:
          WrongStatus: the round was asked for with other weights, or the datasite is stopped.
        """
        self.check_not_stopped()
        last = self._last_run(record, round_number)
        if last is None:
            return {"status": RunStatus.VOID.value, "round": round_number, "release": None, "certificate": None}
        if last.weights_digest != weights_digest:
            raise WrongStatus(f"Round {round_number} was asked for with other weights. Call it with the weights.")
        if last.status is RunStatus.RELEASED:
            return self._released(record, last)
        if last.status in ENDED:
            self._is_news(last, weights_digest)
            return _without_release(last)
        return self._running(last)

    def check_not_stopped(self) -> None:
        """Raise `WrongStatus` where the owner has stopped all work."""
        if self.stopped.is_set():
            raise WrongStatus("The owner has stopped all work on this datasite. Ask again when it goes on.")

    def _last_run(self, record: CodeRequestRecord, round_number: int) -> Run | None:
        """The newest run of a round; one whose time has come is waited for while it is written."""
        runs = [run for run in self.ledger.runs.list(record.id) if run.round == round_number]
        if not runs or runs[-1].status is RunStatus.RELEASED or runs[-1].status in ENDED:
            return runs[-1] if runs else None
        self.times.wait_where_due(runs[-1].id)
        return self.ledger.runs.get(runs[-1].id)

    def _is_news(self, run: Run, weights_digest: str) -> bool:
        """Whether nobody was told yet how this run ended: only an ask that comes after that begins another."""
        with self._lock:
            if run.weights_digest != weights_digest or run.id in self._told:
                return False
            self._told.add(run.id)
            return True

    def _running(self, run: Run) -> dict[str, Any]:
        return {**_without_release(run), "status": "running", "shows_in": self.times.shows_in(run.id)}

    def _released(self, record: CodeRequestRecord, run: Run) -> dict[str, Any]:
        stored = self.ledger.runs.release(record.id, run.round)
        assert stored is not None
        return {
            "status": "released",
            "round": run.round,
            "release": from_bytes(stored.bytes),
            "certificate": stored.certificate,
        }

    def _begin(self, record: CodeRequestRecord, plan: Plan, run: Run, weights: Arrays, ends: int) -> None:
        with self._lock:
            if run.id in self._threads:
                return
            if ends != self._ends:  # a stop came between its admission and here
                self._ending.add(run.id)
            self._researchers[run.id] = record.researcher
            thread = threading.Thread(target=self._work, args=(record, plan, run, weights), name=f"run-{run.id[:8]}")
            thread.daemon = True
            self._threads[run.id] = thread
        thread.start()

    # -- working -------------------------------------------------------------------------------------------------

    def _work(self, record: CodeRequestRecord, plan: Plan, run: Run, weights: Arrays) -> None:
        started = False

        def before_rows(protections: dict[str, bool]) -> None:
            nonlocal started
            self.ledger.runs.start(run.id)  # durable: from here the charge stays
            started = True

        try:
            # One at a time of each researcher: rounds that take their time hold nobody else's up.
            with self._turns[record.researcher], self._slots:
                self._check_goes_on(run)
                self.times.rehearse(run.id)
                published = published_from(self.ledger.datasets.get(version=record.version))
                weights = self.parts.all_weights(record, plan, run.round, weights)
                payload = to_bytes(weights) if weights else b""
                seconds = self._public_seconds(plan, published, payload, lambda: self._is_to_end(run))
                self.times.begin(run.id, self._grid(SHOWN_MARGIN * seconds))
                try:
                    with self._shown_at_multiples_of(SHOWN_MARGIN * seconds):
                        answer = self._run(record, plan, published, payload, seconds, before_rows, run)
                finally:
                    self.times.come(run.id)
            # Also while a finished round waited for its time, or its end would tell whether its job was done.
            with self._lock:
                self._check_goes_on(run)
                self._settling.add(run.id)
            self.settle(run, plan, published, record.researcher, answer, weights)
        except Exception as error:
            ids, kind = (Shown(run.id[:8]), Shown(record.id[:8])), Shown(type(error).__name__)
            logger.warning("Run %s of request %s ended: %s", *ids, kind)
            self._end(run, started, error)
        finally:
            try:
                self.parts.forget_if_over(record.id)
            finally:
                with self._lock:
                    self._threads.pop(run.id, None)
                    self._researchers.pop(run.id, None)
                    self._settling.discard(run.id)
                self.times.end(run.id)

    def _check_goes_on(self, run: Run) -> None:
        """Raise `Unavailable` where the run is to end; one that was ended stays so when work goes on."""
        if run.id in self._ending or self.stopped.is_set():
            raise Unavailable("The owner stopped this before it was released.")

    def progress(self, run: str) -> dict[str, float] | None:
        """When a run under way began and after how many seconds it most likely shows: public times, for the owner."""
        return self.times.progress(run)

    def _run(
        self,
        record: CodeRequestRecord,
        plan: Plan,
        published: Published,
        payload: bytes,
        seconds: float,
        before_rows: Callable[[dict[str, bool]], None],
        run: Run,
    ) -> Answer:
        shapes = answer_shapes(plan, published.schema)
        if plan.graph is not None:
            shapes = {**shapes, **local_shapes(plan.graph)}
        largest = sum(8 * math.prod(shape) + 512 for shape, _ in shapes.values()) + (1 << 16)
        deadline = self.settings.round_seconds or LEAST_DEADLINE + DEADLINE_MARGIN * seconds
        every = self._grid(SHOWN_MARGIN * seconds)
        shown = PublicTime(time.monotonic() + SENT_AT * min(every, deadline), every) if every > 0 else None
        with self._at_work(run), self.tables.lend(record.version) as rows:
            return self.pool.run(
                "runner",
                {**self._job(plan, published), "round": run.round},
                payload,
                seconds=deadline,
                memory=JOB_MEMORY,
                largest=largest,
                rows=rows,
                layout=_layout(plan, published.schema),
                shown=shown,
                before_rows=before_rows,
                stop=lambda: self._is_to_end(run),
            )

    @contextlib.contextmanager
    def _at_work(self, run: Run) -> Iterator[None]:
        """What happens inside may hold rows."""
        self._working.add(run.id)
        try:
            yield
        finally:
            self._working.discard(run.id)

    def _is_to_end(self, run: Run) -> bool:
        return self.stopped.is_set() or run.id in self._ending or self._revoked(run)

    def _revoked(self, run: Run) -> bool:
        """By its owner. A researcher ends no job: released or failed would say whether it was over by then."""
        return self.ledger.requests.get(run.request).status is RequestStatus.REVOKED

    @staticmethod
    def _job(plan: Plan, published: Published) -> dict[str, Any]:
        return {
            "job": JOB_OF[plan.mechanism.kind],
            "plan": plan.as_dict(),
            "mechanism": as_dict(plan.mechanism),
            "schema": published.schema.as_dict(),
            "training_patients": published.training_patients,
            "patients": published.patients,
        }

    def _public_seconds(
        self, plan: Plan, published: Published, payload: bytes, stop: Callable[[], bool] = lambda: False
    ) -> float:
        """What a round takes at most, from public facts alone: a dry run on synthetic rows at the public size, once.

        All of it, from asking the runner to its answer. Where a model does not train in lanes, times what its operators
        may take longer on other values than the synthetic ones.
        """
        if plan.digest not in self._rehearsed:
            job, begin = {**self._job(plan, published), "job": "rehearse"}, time.monotonic()
            layout = _layout(plan, published.schema)
            answer = self.pool.run("runner", job, payload, seconds=REHEARSED_WITHIN, layout=layout, stop=stop)
            if not answer.done:
                raise Unavailable(f"The dry run failed:\n{answer.output}")
            told = answer.message
            besides = max(0.0, time.monotonic() - begin - float(told["spent"]))  # of starting and confining a job
            on_slowest = 1.0 if told["lanes"] or plan.graph is None else slowest(plan.graph)
            self._rehearsed[plan.digest] = besides + on_slowest * float(told["seconds"])
        return self._rehearsed[plan.digest]

    @contextlib.contextmanager
    def _shown_at_multiples_of(self, seconds: float) -> Iterator[None]:
        """Let what happens inside be seen, done or failed, only after a whole multiple of a public time.

        How long a round takes depends on how many patients it sampled. At 1.5 times the dry run nearly every round is
        over, so what can be seen of its time is one and the same figure.
        """
        grid = self._grid(seconds)
        begin = time.monotonic()
        try:
            yield
        finally:
            elapsed = time.monotonic() - begin
            if grid > 0:  # also after a stop: an end that shows at once says that the job was still at work
                time.sleep(max(1, math.ceil(elapsed / grid)) * grid - elapsed)

    def _grid(self, seconds: float) -> float:
        least = self.settings.release_grid_seconds
        return math.ceil((seconds + SHOWN_BESIDES) / least) * least if least > 0 else 0.0

    def settle(
        self, run: Run, plan: Plan, published: Published, researcher: str, answer: Answer, weights: Arrays | None = None
    ) -> Arrays:
        """Check what a job answered, sign its certificate and settle its run; the tensors are then a release.

        What leaves in sums alone is masked before anything of it is written or signed.

        Raises:
          Unavailable: the job failed.
          WeightsRefused: its tensors are not those of the plan.
        """
        if not answer.done:
            raise Unavailable(f"The runner failed:\n{answer.output}")
        tensors = self.parts.take_local(run.request, run.round, plan, from_bytes(answer.payload))
        check_tensors(tensors, answer_shapes(plan, published.schema), finite=False)
        tensors = self.secure.masked(
            run.request, plan, run.round, run.weights_digest, tensors, weights or {}, published.schema
        )
        release_digest = digest(tensors)
        accepted = is_accepted(self.ledger.requests.get(run.request))
        balance = self.ledger.budgets.balance(published.population)

        def certify(entry: Entry) -> str:
            return sign(
                make_certificate(
                    plan=plan,
                    published=published,
                    datasite=self.settings.name,
                    request=run.request,
                    researcher=researcher,
                    round_number=run.round,
                    tensors=release_shapes(plan, published.schema),
                    release_digest=release_digest,
                    weights_digest=run.weights_digest,
                    order=balance.order,
                    budget=balance.budget,
                    entry=entry.seq,
                    head=entry.hash,
                    protections=answer.protections,
                    spent=self.ledger.budgets.balance(published.population).epsilon_spent,
                    accepted=accepted,
                    issued_at=datetime.now(UTC).isoformat(timespec="seconds"),
                ),
                signing_key(self.settings.directory),
            )

        self.ledger.runs.settle(run.id, to_bytes(tensors), release_digest, certify)
        return tensors

    def _end(self, run: Run, started: bool, error: Exception) -> None:
        reason = str(error) if isinstance(error, DatasiteError) else f"{type(error).__name__}: {error}"
        try:
            if started:
                self.ledger.runs.fail(run.id, reason[:20_000])
            else:
                self.ledger.runs.void(run.id, reason[:20_000])
                logger.warning("Run %s was not started: %s", Shown(run.id[:8]), reason)
        except DatasiteError as second:  # the owner's revocation ended it first
            logger.warning("Run %s: %s", Shown(run.id[:8]), second)

    # -- rows ----------------------------------------------------------------------------------------------------

    def _read_rows(self, version: str) -> GroupedRows:
        record = self.ledger.datasets.get(version=version)
        most = published_from(record).schema.most_records_per_patient
        return in_groups(self.load(record.assets["records"]), most)

    def _open_tensors(self, version: str) -> tuple[OpenTensor, ...]:
        schema = published_from(self.ledger.datasets.get(version=version)).schema
        return open_tensors(self.settings.directory, version, schema)

    def _wants_rows(self, version: str) -> bool:
        """Whether a table may stay open between runs."""
        return not self.stopped.is_set() and self.ledger.datasets.get(version=version).status == "published"

    # -- stopping ------------------------------------------------------------------------------------------------

    def stop(self) -> Stopped:
        """End every round under way and start none. None of them is released, also when work goes on.

        Their charges stay. Each shows as failed at its public time, as any other; this does not wait for that.
        """
        write_private(self._stop_file, "")
        self.stopped.set()
        stopped = self._end_all(lambda run: True)
        self.tables.close_unwanted()
        return stopped

    def end_of(self, researcher: str) -> int:
        """End every round under way of one researcher, as `stop` does; how many."""
        return self._end_all(lambda run: self._researchers.get(run) == researcher).ended

    def _end_all(self, which: Callable[[str], bool]) -> Stopped:
        with self._lock:
            self._ends += 1
            under_way = {run for run in self._threads if which(run)}
            ended = under_way - self._settling
            self._ending |= ended
        deadline = time.monotonic() + STOPPED_WITHIN
        while ended & self._working and time.monotonic() < deadline:
            time.sleep(0.02)
        return Stopped(len(ended), len(under_way) - len(ended))

    def stop_one(self, run: str) -> None:
        """End one run now; it shows as failed at its public time, as any other."""
        with self._lock:
            if run in self._settling:
                raise WrongStatus(f"Run {run[:8]} has ended by itself; there is nothing to stop.")
            self._ending.add(run)

    def is_ending(self, run: str) -> bool:
        """Whether the owner has stopped this run."""
        return run in self._ending

    def resume(self) -> None:
        """Let rounds start again."""
        self._stop_file.unlink(missing_ok=True)
        self.stopped.clear()


def _layout(plan: Plan, schema: Schema) -> Layout:
    """What a plan's job reads of a table, by public facts."""
    tensor = schema.tensor_of(plan.mechanism.inputs) if isinstance(plan.mechanism, DPSGD | Evaluation) else None
    entries = [] if tensor is None else [Entries(tensor.name, stored_dtype(tensor), tensor.shape)]
    return Layout(FIRST_COLUMN + len(schema.columns), grouped=True, tensors=tuple(entries))


def _without_release(run: Run) -> dict[str, Any]:
    return {"status": run.status.value, "round": run.round, "release": None, "certificate": None}


def check_weights(plan: Plan, weights: Arrays) -> None:
    """Raise `WeightsRefused` unless the weights are the plan's: names, shapes, dtypes, all finite."""
    if plan.graph is None:
        if weights:
            raise WeightsRefused(
                "This request has no model and takes no weights. Call it as f(records=asset, round=1)."
            )
        return
    shapes = {parameter.name: (parameter.shape, parameter.dtype) for parameter in plan.graph.parameters}
    check_tensors(weights, shapes, finite=True)
