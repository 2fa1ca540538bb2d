"""Start the warm parents, hand a job over, bound its time and size, read its answer."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datasites.jobs.elsewhere import JobMachine, Unanswered
from datasites.jobs.frames import LARGEST_ANSWER, receive_frame, send_frame
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.rows import Layout, PublicTime, SealedRows, hand_over, send_stream
from datasites.logs import Shown
from policies.errors import DatasiteError, IsolationMissing, Unavailable

logger = logging.getLogger(__name__)
KINDS = ("exporter", "runner")
THREADED = ("train", "rehearse", "try", "probe")  # jobs with several threads; what is probed is what training has
LONGEST_PUBLIC = 1_000  # characters of what a job says for the researcher
LONGEST_OUTPUT = 100_000  # characters of what it says for the owner
NOT_RUNNING = "The {kind} of this datasite is not running. Ask its operator to look at the log."


@dataclass(frozen=True)
class Answer:
    """What a job said: `message` and `payload` of its last frame, and the protections that held."""

    message: dict[str, Any]
    payload: bytes
    protections: dict[str, bool]

    @property
    def done(self) -> bool:
        return self.message.get("event") == "done"

    @property
    def output(self) -> str:
        """What the job printed, and its traceback: for the owner only."""
        return str(self.message.get("output", ""))


@contextlib.contextmanager
def _taking_input() -> Iterator[None]:
    try:
        yield
    except OSError:  # a job that ended, or that does not read
        raise Unavailable("The job ended or took no input.") from None


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """What a job said, its texts of bounded length: whatever a hostile one sent, owners and researchers can read it."""
    public, output = message.get("public"), message.get("output")
    shown = public[:LONGEST_PUBLIC] if isinstance(public, str) else ""
    plain = "".join(character for character in shown if character.isprintable())
    return {**message, "public": plain, "output": output[:LONGEST_OUTPUT] if isinstance(output, str) else ""}


class JobPool:
    """Two warm parents, `exporter` and `runner`, which one program forks, and the jobs they fork.

    Args:
      sockets: where each kind listens.
      required: refuse a job that lacks a protection.
      start_parents: False where the parents run elsewhere, as containers on a shared volume.
      start_seconds: what a parent may take to come up.
      training_threads: of a job that trains.
      elsewhere: kinds whose jobs run on another machine; no parent of theirs is started or waited for here.
      records: as many are sent to a runner elsewhere with each job of rows, whatever a table holds.
    """

    def __init__(
        self,
        sockets: Mapping[str, Path],
        *,
        required: bool = True,
        start_parents: bool = True,
        start_seconds: float = 300.0,
        training_threads: int = 1,
        elsewhere: Mapping[str, JobMachine] = MappingProxyType({}),
        records: int = 0,
    ) -> None:
        self.sockets = dict(sockets)
        self.elsewhere, self.records = dict(elsewhere), records
        self.kinds_here = tuple(kind for kind in KINDS if kind not in self.elsewhere)
        self.required = required
        self.start_parents = start_parents
        self.start_seconds = start_seconds
        self.training_threads = training_threads
        self._zygote: subprocess.Popen[bytes] | None = None
        self._heard = b""  # of it, and not yet read as lines
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start both parents at once, or wait for those that something else starts, until they are warm.

        A machine elsewhere has to answer.

        Raises `Unavailable`, naming parent and setting, where one ended or took longer than `start_seconds`.
        """
        with self._lock:
            if self.start_parents and self.kinds_here:
                self._start_parents(self.kinds_here)
            elif not self.start_parents:
                for kind in self.kinds_here:
                    self._wait_until_listening(kind)
            for machine in self.elsewhere.values():
                self._wait_for(machine)

    def stop(self) -> None:
        """End the parents, and with them every job."""
        with self._lock:
            self._end_zygote()
            if self._scratch is not None:
                self._scratch.cleanup()
                self._scratch = None

    def protections(self) -> dict[str, bool]:
        """What holds in a runner's child on this host, found out by a job that does nothing else."""
        return self.run("runner", {"job": "probe"}, seconds=60).protections

    def engine(self) -> str:
        """Which engine the runner trains with, in one sentence for owners."""
        text = self.run("runner", {"job": "engine"}, seconds=60).message.get("engine")
        return "".join(part for part in text[:LONGEST_PUBLIC] if part.isprintable()) if isinstance(text, str) else ""

    def run(
        self,
        kind: str,
        job: dict[str, Any],
        payload: bytes = b"",
        *,
        seconds: float,
        memory: int = 4 << 30,
        largest: int = 1 << 20,
        rows: SealedRows | None = None,
        layout: Layout | None = None,
        shown: PublicTime | None = None,
        before_rows: Callable[[dict[str, bool]], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Run one job and return its answer.

        Args:
          seconds: wall time, and CPU time of each thread; together with memory the bounds of the job.
          largest: most bytes of payload in its answer.
          rows: handed over only after `before_rows` returned.
          layout: of the rows that the job reads, by public facts; of a job without rows, of those that it stands for: a
            runner elsewhere is sent as many zeros, so that both take as long. All that `rows` have, if left out.
          shown: when an answer may be seen on the wire to a runner elsewhere.
          before_rows: told which protections hold; what it raises ends the job before a row is read.
          stop: asked while the job works; True ends it.

        Raises:
          IsolationMissing: a protection is missing and `required` is set; no row was handed over.
          Unavailable: the job ended early, took too long or was stopped.
        """
        deadline = time.monotonic() + seconds
        machine = self.elsewhere.get(kind)
        if machine is not None and rows is not None:
            layout = replace(layout or Layout.of(rows), grouped=bool(rows.patients))
            if rows.shape[0] > self.records:
                raise Unavailable(f"The table has more than runner_records={self.records}, in settings.toml. Raise it.")

        def check_goes_on() -> None:
            if stop():
                raise Unavailable("The job was stopped by the owner.")
            if time.monotonic() > deadline:
                raise Unavailable("The job took longer than its deadline and was ended.")

        connection, shares_user = self._connected(kind, layout, shown, zeros=rows is None)
        with connection:
            connection.settimeout(seconds + 5)
            threads = self.training_threads if job["job"] in THREADED else 1
            bounds = {"memory": memory, "cpu_seconds": int(seconds * threads) + 5, "threads": threads}
            if machine is not None and layout is not None:  # a public number: how long it is can be seen on the wire
                bounds["files"] = layout.size(self.records)
            elif tensors := () if rows is None else rows.tensors:
                bounds["files"] = sum(tensor.size for tensor in tensors)
            with _taking_input():
                if machine is not None and layout is not None and rows is None:
                    send_stream(connection, layout, self.records, None, check_goes_on)
                send_frame(connection, {**job, **bounds}, payload)
            self._wait(connection, deadline, stop)
            ready, _, _ = receive_frame(connection, largest_payload=0, largest_json=LARGEST_ANSWER, deadline=deadline)
            reported = ready.get("protections")
            protections = {name: isinstance(reported, dict) and reported.get(name) is True for name in PROTECTIONS}
            self._check(protections, shares_user)
            if before_rows is not None:
                before_rows(protections)
            if rows is not None:
                with _taking_input():
                    if machine is None or layout is None:
                        hand_over(connection, rows)
                    else:
                        send_stream(connection, layout, self.records, rows, check_goes_on)
            self._wait(connection, deadline, stop)
            message, result, _ = receive_frame(
                connection, largest_payload=largest, largest_json=LARGEST_ANSWER, deadline=deadline
            )
            return Answer(_plain(message), result, protections)

    def _check(self, protections: dict[str, bool], shares_user: bool) -> None:
        missing = [name for name, holds in protections.items() if not holds]
        if not any(protections.values()):
            raise Unavailable("The job ended before it was confined.")
        # Whoever is not root shares the parent's user with the job: the other layers stand alone.
        if shares_user and missing == ["own_user"]:
            missing = []
        if missing and self.required:
            raise IsolationMissing(
                f"This host does not give {', '.join(missing)}. Mend the host (libseccomp2, Landlock, Linux 5.13 or"
                ' later), or accept less with isolation = "reported" in settings.toml.',
                missing=tuple(missing),
            )

    @staticmethod
    def _wait(connection: socket.socket, deadline: float, stop: Callable[[], bool]) -> None:
        while not stop():
            if isinstance(connection, ssl.SSLSocket) and connection.pending():
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unavailable("The job took longer than its deadline and was ended.")
            if select.select([connection], [], [], min(left, 0.25))[0]:
                return
        raise Unavailable("The job was stopped by the owner.")

    def _connected(
        self, kind: str, layout: Layout | None, shown: PublicTime | None, *, zeros: bool
    ) -> tuple[socket.socket, bool]:
        """A connection for one job, and whether it will share its parent's user with who hands it over."""
        if (machine := self.elsewhere.get(kind)) is None:
            return self.connect(kind), os.geteuid() != 0
        try:
            connection, greeting = machine.connect(layout, records=self.records, zeros=zeros, shown=shown)
        except DatasiteError as error:  # a researcher may read what is raised; addresses are for the log
            logger.error("The %s elsewhere: %s", Shown(kind), error)
            raise Unavailable(NOT_RUNNING.format(kind=kind)) from None
        return connection, greeting.shares_user

    def connect(self, kind: str) -> socket.socket:
        """A connection to the warm parent of a kind on this machine, which is started again where it has ended.

        Raises `Unavailable`.
        """
        for attempt in (0, 1):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self.sockets[kind]))
                return connection
            except OSError:
                connection.close()
                if attempt or not self.start_parents:
                    break
                try:
                    self._restart(kind)
                except Unavailable as error:  # a researcher may read what is raised; paths are for the log
                    logger.error("The %s could not be started again: %s", Shown(kind), error)
                    break
        raise Unavailable(NOT_RUNNING.format(kind=kind))

    def _restart(self, kind: str) -> None:
        with self._lock:
            self._start_parents((kind,))

    def _start_parents(self, kinds: Sequence[str]) -> None:
        """Have the zygote fork a parent of each kind where none is, and wait until they are ready."""
        deadline = time.monotonic() + self.start_seconds
        if self._zygote is None or self._zygote.poll() is not None:
            self._end_zygote()
            self._zygote, self._heard = self._started_zygote(), b""
        zygote = self._zygote
        while self._said(zygote, time.monotonic()):
            pass  # of a parent that was waited for in vain
        assert zygote.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            zygote.stdin.write("".join(f"{kind}\n" for kind in kinds).encode())
        waiting = list(kinds)
        while waiting:
            said = self._said(zygote, deadline)
            where = f"datasite.out in {self.sockets[waiting[0]].parent} says what it printed"
            if said is None:
                if waiting == list(self.kinds_here):  # it has no job yet, and would be waited for
                    zygote.kill()
                raise Unavailable(
                    f"The {waiting[0]} did not come up within start_seconds={self.start_seconds:g}. Raise start_seconds"
                    f" in settings.toml if this machine is slow or loaded; {where}."
                )
            kind, _, what = said.partition(" ")
            if what != "ready":
                raise Unavailable(
                    f"The {kind or waiting[0]} ended before it was ready: {where}. Mend that and start again."
                )
            if kind in waiting:
                waiting.remove(kind)

    def _said(self, zygote: subprocess.Popen[bytes], deadline: float) -> str | None:
        """The zygote's next line; "" where it has ended, None at the deadline."""
        assert zygote.stdout is not None
        while b"\n" not in self._heard:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([zygote.stdout], [], [], left)[0]:
                return None
            part = os.read(zygote.stdout.fileno(), 4096)
            if not part:
                return ""
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _started_zygote(self) -> subprocess.Popen[bytes]:
        """The program that forks both parents; of this process's environment it gets nothing."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="datasite-")
        environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "TORCHINDUCTOR_CACHE_DIR": self._scratch.name,
        }
        for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # some processors need them to compute rightly
            if name in os.environ:
                environment[name] = os.environ[name]
        places = [f"{kind}={self.sockets[kind]}" for kind in self.kinds_here]
        return subprocess.Popen(
            [sys.executable, "-m", "datasites.jobs.zygote", *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            cwd="/",
        )

    def _end_zygote(self) -> None:
        """End it, and with it the parents and every job."""
        if self._zygote is None:
            return
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        try:
            self._zygote.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()
        self._zygote.stdout.close()
        self._zygote = None

    def _wait_until_listening(self, kind: str) -> None:
        deadline = time.monotonic() + self.start_seconds
        while True:
            try:
                self.connect(kind).close()
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"No {kind} listened at {self.sockets[kind]} within start_seconds={self.start_seconds:g}. Start"
                        " it, mend jobs_directory, or raise start_seconds in settings.toml."
                    ) from None
                time.sleep(0.2)

    def _wait_for(self, machine: JobMachine) -> None:
        deadline = time.monotonic() + self.start_seconds
        while True:
            try:
                machine.connect()[0].close()
                return
            except Unanswered:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
