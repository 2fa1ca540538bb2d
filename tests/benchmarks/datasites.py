"""How many real datasites one machine holds, and what a study over all of them costs each.

Every datasite is `datasite serve` with a table of its own, on loopback, started from nothing, as many at once as the
machine has processors. None is started while the machine has less memory left than `FLOOR_MB`; those that stand take
part in the study. Parents that all of a machine share (`jobs_directory`) are the other way to hold them: an exporter
and a runner for all of them. What is known is told, and written down, as soon as it is known: whoever ends a long
measurement in the middle has its figures up to there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from datasites.jobs.pool import KINDS, JobPool
from datasites.operations.control_socket import ask
from datasites.progress import Tell
from datasites.settings import Settings, job_socket
from policies.errors import DatasiteError
from tests.benchmarks.starts import Process, measured, processes_of
from tests.factories import PASSWORD, RESEARCHER, SCHEMA, DatasiteProcess, write_table
from tests.warm import warm

FLOOR_MB = 1536.0
"""Memory that the machine keeps: no datasite is started below it."""
FIRST_NEEDED_MB = 600.0
"""What another datasite is taken to need before one was measured."""
MOST_FAILURES = 5
"""Of datasites that do not come up, each of which is tried again; after that no more are started."""
ROUNDS, STEPS, PATIENTS = 3, 20, 400
START_SECONDS = 240.0
STUDY_SECONDS = 1800.0


_warming = threading.Lock()


@dataclass(frozen=True)
class Standing:
    """What so many datasites on one machine take; memory in MB, processor time in seconds.

    Args:
      wanted: how many were to be started; `ended` says why there are fewer, or "".
      starts: seconds from nothing until each served, beside others that started; `start_seconds` for all of them, with
        their tables and accounts.
      submit_seconds: to check and submit the study at all of them.
      own, share: of each, before the study: memory that no file has, and its proportional share of all (PSS).
      own_after: of each, after the study.
      parents: of an exporter and a runner that all share; 0 where each has its own.
      available: what the machine had left with all of them standing, and the least while the study ran.
      first_round_seconds: of the first round over all, by the clock: each hospital rehearses it.
      round_seconds: of a later one; `study_seconds` of all of them.
      hospital_seconds: processor time of a round at one hospital, its jobs included.
      researcher_seconds: of a round at the researcher, for each hospital.
    """

    wanted: int
    starts: tuple[float, ...] = ()
    own: tuple[float, ...] = ()
    share: tuple[float, ...] = ()
    ended: str = ""
    start_seconds: float = 0.0
    submit_seconds: float = 0.0
    own_after: tuple[float, ...] = ()
    parents: float = 0.0
    available: float = 0.0
    least_available: float = 0.0
    answered: int = 0
    first_round_seconds: float = 0.0
    round_seconds: float = 0.0
    study_seconds: float = 0.0
    hospital_seconds: float = 0.0
    researcher_seconds: float = 0.0
    faults: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many stood."""
        return len(self.starts)


@dataclass
class Machine:
    """The datasites that stand, in a directory that goes with them."""

    base: Path
    jobs: Path | None = None
    pool: JobPool | None = None
    standing: list[DatasiteProcess] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _coming: int = 0
    _needed: float = FIRST_NEEDED_MB

    def stand_up(self, count: int, *, floor: float = FLOOR_MB, tell: Tell = lambda text: None) -> str:
        """So many more datasites, as many at once as there are processors; why there are fewer, or ""."""
        ended, failed = list[str](), list[str]()

        def one(_: int) -> None:
            while not ended and len(failed) < MOST_FAILURES:
                if why := self._too_little(floor):
                    ended.append(why)
                    return
                try:
                    self._stand_up_one(tell)
                    return
                except (AssertionError, DatasiteError, OSError) as error:  # what stands is measured all the same
                    failed.append(f"one did not come up: {str(error).splitlines()[0][:200]}")
                    tell(failed[-1])
                finally:
                    with self._lock:
                        self._coming -= 1

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(one, range(count)))
        return next(iter([*ended, *failed]), "")

    def _too_little(self, floor: float) -> str:
        """Why no other datasite is started now, or ""; then one is coming."""
        with self._lock:
            left = available() - self._coming * self._needed
            self._coming += 1
            if left - self._needed >= floor:
                return ""
            self._coming -= 1
            return f"{left:,.0f} MB were left, another takes {self._needed:,.0f}, and {floor:,.0f} are kept"

    def _stand_up_one(self, tell: Tell) -> None:
        """One more, with a table of its own."""
        number, scratch = next(self._numbers), self.base / "scratch"
        directory, table = self.base / f"datasite-{number}", self.base / "scratch" / f"visits-{number}.csv"
        scratch.mkdir(exist_ok=True)
        write_table(table, patients=PATIENTS, seed=number)
        make_directory(directory, f"Hospital {number}")
        datasite = DatasiteProcess(directory, directory, jobs=self.jobs, cold=True)
        begin = time.monotonic()
        try:
            datasite.start(wait=False)
            datasite.wait_until_healthy(START_SECONDS)
            seconds = time.monotonic() - begin
            act(
                datasite,
                "publish",
                **dict.fromkeys(("sql", "database", "password_file", "count_epsilon", "public_mock")),
                table=str(table),
                schema=SCHEMA,
                patients=PATIENTS,
                budget=[6.0, 1e-5],
            )
            act(datasite, "add_researcher", email=RESEARCHER, name="Some Body", institution="", password=PASSWORD)
        except BaseException:
            datasite.stop()
            raise
        with self._lock:
            self.standing.append(datasite)
            self.starts.append(seconds)
            self._needed = measured_tree(datasite)[0]
            tell(f"{len(self.standing)} stand; the last served after {seconds:.1f} s and has {self._needed:.0f} MB.")

    def parents(self) -> tuple[Process, ...]:
        """The processes of parents that all share."""
        if self.pool is None:
            return ()
        ours = psutil.Process().children(recursive=True)
        serving = {process.pid for datasite in self.standing for process in tree(datasite)}
        shared = [process for process in ours if process.pid not in serving and "zygote" in " ".join(process.cmdline())]
        return tuple(measured(process, 0) for process in shared)

    def network(self) -> Path:
        """A network file that names them all."""
        (self.base / "password").write_text(PASSWORD)
        path = self.base / "network.toml"
        path.write_text(
            "".join(
                f'[[datasites]]\nname = "hospital-{number}"\nurl = "{datasite.url}"\nemail = "{RESEARCHER}"\n'
                'password_file = "password"\n'
                for number, datasite in enumerate(self.standing)
            )
        )
        return path

    def approve_all(self) -> None:
        """Let every owner approve what waits."""

        def approve(datasite: DatasiteProcess) -> None:
            for request in act(datasite, "requests", status="checked"):
                seen = act(datasite, "show", request=request["id"])
                act(datasite, "approve", request=request["id"], plan_digest=seen["plan_digest"], typed=seen["function"])

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(approve, self.standing))


def act(datasite: DatasiteProcess, action: str, **arguments: Any) -> Any:
    """Run an owner's action on a datasite that serves."""
    return ask(Settings.load(datasite.directory).control_socket, action, arguments)


@contextlib.contextmanager
def machine(*, shared: bool) -> Iterator[Machine]:
    """An empty one; whatever stands in it at the end is ended."""
    with tempfile.TemporaryDirectory(prefix="datasites-", ignore_cleanup_errors=True) as name:
        made = Machine(Path(name))
        if shared:
            made.jobs = made.base / "jobs"
            sockets = {kind: job_socket(made.jobs, kind) for kind in KINDS}
            for path in sockets.values():
                path.parent.mkdir(parents=True)
            made.pool = JobPool(sockets)
            made.pool.start()
        try:
            yield made
        finally:
            for datasite in made.standing:
                if datasite.process is not None and datasite.process.poll() is None:
                    datasite.process.terminate()  # all at once, so that none waits for another
            for datasite in made.standing:
                datasite.stop()
            if made.pool is not None:
                made.pool.stop()


def make_directory(directory: Path, name: str) -> None:
    """`datasite init`, from libraries that are imported already: how long that takes is not measured."""
    with (directory.parent / "init.out").open("ab") as log:
        command = ["-m", "datasites", "init", "--name", name, "--dir", str(directory)]
        with _warming:  # its parent is started by one thread, and asked by one at a time
            made = warm().start(command, stdout=log.fileno(), stderr=log.fileno())
        code = made.wait(timeout=START_SECONDS)
    if code:
        raise AssertionError(f"datasite init ended with {code}: {(directory.parent / 'init.out').read_text()[-500:]}")


def held(
    count: int,
    *,
    shared: bool = False,
    floor: float = FLOOR_MB,
    tell: Tell = lambda text: None,
    keep: Callable[[Standing], None] = lambda standing: None,
) -> Standing:
    """So many datasites, or as many as memory holds, and a study over them.

    Args:
      shared: one exporter and one runner for all.
      floor: MB that the machine keeps; the next datasite is not started below it and what it will take.
      tell: hears how far it is.
      keep: hears what is known so far, whenever that is more.
    """
    allow_files()
    with machine(shared=shared) as made:
        begin = time.monotonic()
        ended = made.stand_up(count, floor=floor, tell=tell)
        if not made.standing:
            return Standing(count, ended=ended)
        memory = [measured_tree(datasite) for datasite in made.standing]
        standing = Standing(
            count,
            starts=tuple(made.starts),
            own=tuple(own for own, _ in memory),
            share=tuple(share for _, share in memory),
            ended=ended,
            start_seconds=time.monotonic() - begin,
            parents=sum(process.anonymous for process in made.parents()),
            available=available(),
        )
        keep(standing)
        for known in _studied(made, tell):
            standing = replace(standing, **known)
            keep(standing)
        return standing


def _studied(made: Machine, tell: Tell) -> Iterator[dict[str, Any]]:
    """A study over all that stand: what a round takes, and memory after it."""
    import researcher
    from tests.relays.models import FluPredictor

    count, begin = len(made.standing), time.monotonic()
    training = researcher.Training(
        loss="binary_cross_entropy",
        rounds=ROUNDS,
        steps=STEPS,
        sampling_rate=0.1,
        clipping_norm=1.0,
        epsilon=1.0,
        learning_rate=1.0,
    )
    flu = researcher.connect(made.network()).dataset("flu")
    study = researcher.Study(
        "held", flu, FluPredictor, training, state=made.base / "studies", progress=False, purpose="To measure."
    )
    study.submit()
    submitted = time.monotonic() - begin
    tell(f"submitted to {count} in {submitted:.0f} s")
    yield {"submit_seconds": submitted}
    made.approve_all()
    study.wait_for_approval(timeout=STUDY_SECONDS)
    tell("approved")
    before, mine, begin = _processor_seconds(made), time.process_time(), time.monotonic()
    began = time.time()
    with least_available() as least:
        result = study.run(deadline=STUDY_SECONDS)
    seconds = time.monotonic() - begin
    closed = [began, *(path.stat().st_mtime for path in sorted((made.base / "studies" / "rounds").glob("*.json")))]
    tell("rounds: " + ", ".join(f"{after - before:.1f} s" for before, after in pairwise(closed)))
    yield {
        "own_after": tuple(measured_tree(datasite)[0] for datasite in made.standing),
        "least_available": min(least),
        "answered": min(len(record.answered) for record in result.rounds),
        "first_round_seconds": closed[1] - closed[0],
        "round_seconds": (closed[-1] - closed[1]) / (ROUNDS - 1),
        "study_seconds": seconds,
        "hospital_seconds": (_processor_seconds(made) - before) / ROUNDS / count,
        "researcher_seconds": (time.process_time() - mine) / ROUNDS / count,
        "faults": tuple(f"{name}: {why}" for name, why in result.missing.items())[:5],
    }


def allow_files() -> None:
    """As many open files as this process may have: it calls every datasite at once."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def tree(datasite: DatasiteProcess) -> list[psutil.Process]:
    """All processes of a datasite."""
    assert datasite.process is not None
    serving = psutil.Process(datasite.process.pid)
    return [serving, *serving.children(recursive=True)]


def measured_tree(datasite: DatasiteProcess) -> tuple[float, float]:
    """MB of a datasite: of its own, and its share of all."""
    processes = processes_of(datasite)
    return sum(process.anonymous for process in processes), sum(process.share for process in processes)


def available() -> float:
    """MB that the machine could still give."""
    return psutil.virtual_memory().available / 2**20


@contextlib.contextmanager
def least_available() -> Iterator[list[float]]:
    """What `available` was, again and again, while this is held."""
    seen, ended = [available()], threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            seen.append(available())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def _processor_seconds(made: Machine) -> float:
    """Of all datasites and shared parents, with the jobs that have ended."""
    processes = [process for datasite in made.standing for process in tree(datasite)]
    if made.pool is not None:
        known = {process.pid for process in processes}
        processes += [each for each in psutil.Process().children(recursive=True) if each.pid not in known]
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def cells(standing: Standing) -> list[str]:
    """The figures of one column, in the order of `ROWS`."""
    if not standing.count:
        return ["0", *["-"] * (len(ROWS) - 1)]
    return [
        f"{standing.count} of {standing.wanted}",
        f"{statistics.median(standing.starts):.1f}, {max(standing.starts):.1f}",
        f"{standing.start_seconds:.0f}",
        f"{statistics.median(standing.own):.0f}",
        f"{statistics.median(standing.share):.0f}",
        f"{statistics.median(standing.own_after):.0f}",
        f"{standing.parents:.0f}",
        f"{sum(standing.own_after) + standing.parents:,.0f}",
        f"{standing.available:,.0f}, {standing.least_available:,.0f}",
        f"{standing.submit_seconds:.1f}",
        str(standing.answered),
        f"{standing.first_round_seconds:.1f}",
        f"{standing.round_seconds:.2f}",
        f"{standing.hospital_seconds:.2f}",
        f"{standing.researcher_seconds:.3f}",
    ]


ROWS = (
    "datasites that stood",
    "start: median, longest, s",
    "until all stood, s",
    "memory of its own, MB",
    "share of all memory (PSS), MB",
    "of its own after the study, MB",
    "parents that all share, MB",
    "all together after the study, MB",
    "what the machine had left: before, least in the study, MB",
    "checked and submitted, s",
    "answered every round",
    "the first round by the clock, s",
    "a later round by the clock, s",
    "a round's processor time a hospital, s",
    "the researcher's a hospital and round, s",
)
