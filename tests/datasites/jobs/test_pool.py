"""The datasite's side of a job: what it hands over and when, how long it waits, and how much it takes back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.jobs import pool as pool_module
from datasites.jobs.frames import HEADER, receive_frame, send_frame
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import LARGEST_ANSWER, LONGEST_OUTPUT, LONGEST_PUBLIC, Answer, JobPool
from datasites.vault.private_rows import PrivateRows
from policies.errors import Unavailable
from tests.open_tables import tables_open

HELD = dict.fromkeys(PROTECTIONS, True)
Play = Callable[[socket.socket], None]
POPEN = subprocess.Popen


class Runner:
    """A warm parent of one job, which is a function of its connection; `job` and `payload` are what it was sent."""

    def __init__(self, path: Path, play: Play) -> None:
        self.path, self.play = path, play
        self.job: dict[str, Any] = {}
        self.payload = b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.hung_up = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            self.job, self.payload, _ = receive_frame(connection, largest_payload=1 << 20)
            with contextlib.suppress(OSError):  # it may be hung up at any time
                self.play(connection)
                while connection.recv(1 << 16):
                    pass
            self.hung_up.set()

    @property
    def pool(self) -> JobPool:
        return JobPool({"runner": self.path}, start_parents=False)

    def close(self) -> None:
        self.thread.join(10)
        self.listener.close()


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Callable[[Play], Runner]]:
    runners: list[Runner] = []

    def begin(play: Play) -> Runner:
        runners.append(Runner(tmp_path / "runner.sock", play))
        return runners[-1]

    yield begin
    for runner in runners:
        runner.close()


def ready(connection: socket.socket) -> None:
    send_frame(connection, {"event": "ready", "protections": HELD})


def saying(message: dict[str, Any], payload: bytes = b"") -> Play:
    def play(connection: socket.socket) -> None:
        ready(connection)
        send_frame(connection, message, payload)

    return play


def test_a_job_is_sent_with_its_bounds_and_answered(playing: Callable[[Play], Runner]) -> None:
    runner = playing(saying({"event": "done", "seconds": 1.5}, b"tensors"))
    answer = runner.pool.run("runner", {"job": "train"}, b"weights", seconds=7, memory=1 << 20)
    assert answer.done
    assert (answer.message["seconds"], answer.payload, answer.protections) == (1.5, b"tensors", HELD)
    assert runner.job == {"job": "train", "memory": 1 << 20, "cpu_seconds": 12, "threads": 1}
    assert runner.payload == b"weights"


def test_rows_follow_what_must_come_before_them(playing: Callable[[Play], Runner]) -> None:
    happened: list[Any] = []

    def play(connection: socket.socket) -> None:
        ready(connection)
        message, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
        assert descriptor is not None
        happened.append((message["shape"], len(os.pread(descriptor, 1000, 0))))
        os.close(descriptor)
        send_frame(connection, {"event": "done"})

    runner = playing(play)
    with PrivateRows(np.ones((4, 3))) as rows:
        runner.pool.run("runner", {"job": "train"}, seconds=5, rows=rows, before_rows=happened.append)
    assert happened == [HELD, ([4, 3], 96)]
    assert tables_open() == 0


def test_what_is_raised_before_the_rows_ends_the_job_without_them(playing: Callable[[Play], Runner]) -> None:
    def refuses(_: dict[str, bool]) -> None:
        raise Unavailable("The ledger is locked.")

    runner = playing(ready)
    with PrivateRows(np.ones((4, 3))) as rows, pytest.raises(Unavailable, match="locked"):
        runner.pool.run("runner", {"job": "train"}, seconds=5, rows=rows, before_rows=refuses)
    assert runner.hung_up.wait(5)


@pytest.mark.parametrize("play", [lambda connection: None, ready], ids=["before it is confined", "at work"])
def test_a_job_over_its_deadline_is_hung_up(playing: Callable[[Play], Runner], play: Play) -> None:
    runner, begin = playing(play), time.monotonic()
    with pytest.raises(Unavailable, match="longer than its deadline"):
        runner.pool.run("runner", {"job": "train"}, seconds=0.5)
    assert time.monotonic() - begin < 5
    assert runner.hung_up.wait(5)


def test_a_job_that_is_stopped_is_hung_up(playing: Callable[[Play], Runner]) -> None:
    runner, begin = playing(ready), time.monotonic()
    with pytest.raises(Unavailable, match="stopped by the owner"):
        runner.pool.run("runner", {"job": "train"}, seconds=60, stop=lambda: time.monotonic() - begin > 0.3)
    assert time.monotonic() - begin < 5
    assert runner.hung_up.wait(5)


def test_a_payload_above_its_bound_is_refused_and_one_at_it_is_taken(playing: Callable[[Play], Runner]) -> None:
    runner = playing(saying({"event": "done"}, b"x" * 101))
    with pytest.raises(Unavailable, match="at most"):
        runner.pool.run("runner", {"job": "train"}, seconds=5, largest=100)
    runner.close()
    os.unlink(runner.path)
    again = playing(saying({"event": "done"}, b"x" * 100))
    assert len(again.pool.run("runner", {"job": "train"}, seconds=5, largest=100).payload) == 100


def test_an_answer_of_more_text_than_any_has_is_refused_unread(playing: Callable[[Play], Runner]) -> None:
    def play(connection: socket.socket) -> None:
        ready(connection)
        connection.sendall(HEADER.pack(LARGEST_ANSWER + 1, 0))

    with pytest.raises(Unavailable, match="at most"):
        playing(play).pool.run("runner", {"job": "train"}, seconds=5)


def test_texts_of_an_answer_are_shortened_and_printable() -> None:
    plain = pool_module._plain({"public": "\x1b[2J" + "a" * 5000, "output": "b" * 500_000})
    assert len(plain["public"]) == LONGEST_PUBLIC - 1  # less what is not printable
    assert plain["public"].isprintable()
    assert len(plain["output"]) == LONGEST_OUTPUT
    assert pool_module._plain({"public": 7, "output": ["x"]}) == {"public": "", "output": ""}


def test_only_done_is_done() -> None:
    for event in ("failed", "ready", "", None, True, ["done"]):
        assert not Answer({"event": event}, b"", HELD).done
    assert Answer({"event": "done"}, b"", HELD).done


def test_where_nobody_listens_the_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="runner of this datasite is not running"):
        JobPool({"runner": tmp_path / "runner.sock"}, start_parents=False).run("runner", {"job": "train"}, seconds=1)


# -- parents that the pool starts itself ------------------------------------------------------------------------------

ZYGOTE = """
import os, sys
from datasites.jobs import parent, warming, zygote
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.isolation import PROTECTIONS

class OfOneJob:
    def __init__(self, kind, listener, *, watched):
        self.listener = listener

    def serve(self):
        connection, _ = self.listener.accept()
        self.listener.close()  # else the next job would connect to a parent that is about to end
        receive_frame(connection, largest_payload=0)
        send_frame(connection, {"event": "ready", "protections": dict.fromkeys(PROTECTIONS, True)})
        send_frame(connection, {"event": "done", "pid": os.getpid(), "environment": sorted(os.environ)})

warming.import_what_both_need = lambda: None
warming.warm_up = lambda kind: None
parent.Parent = OfOneJob
zygote.main(sys.argv[1:])
os._exit(0)
"""


def forked_by(pool: JobPool) -> list[int]:
    """The parents that a pool's zygote has at present."""
    zygote = pool._zygote
    assert zygote is not None
    return [int(pid) for pid in Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children").read_text().split()]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobPool]:
    """A pool whose parents answer one job and are gone."""
    begin = subprocess.Popen

    def stand_in(command: list[str], **options: Any) -> Any:
        assert command[1:3] == ["-m", "datasites.jobs.zygote"]
        return begin([sys.executable, "-c", ZYGOTE, *command[3:]], **options)

    monkeypatch.setattr(pool_module.subprocess, "Popen", stand_in)
    monkeypatch.setenv("DATASITE_DATABASE_PASSWORD", "secret")
    pool = JobPool({kind: tmp_path / f"{kind}.sock" for kind in pool_module.KINDS})
    pool.start()
    yield pool
    pool.stop()


@pytest.mark.process
def test_a_parent_that_is_gone_is_started_again_for_the_next_job(started: JobPool) -> None:
    before = forked_by(started)
    first = started.run("runner", {"job": "probe"}, seconds=20)
    second = started.run("runner", {"job": "probe"}, seconds=20)
    assert len(before) == 2
    assert first.message["pid"] in before
    assert second.message["pid"] not in before


@pytest.mark.process
def test_parents_whose_zygote_is_gone_are_started_again_by_another(started: JobPool) -> None:
    assert started._zygote is not None
    first = started._zygote.pid
    started.run("runner", {"job": "probe"}, seconds=20)
    os.kill(first, signal.SIGKILL)
    started._zygote.wait()
    assert started.run("runner", {"job": "probe"}, seconds=20).done
    assert started._zygote.pid != first


@pytest.mark.process
def test_a_parent_gets_nothing_of_the_owners_environment(started: JobPool) -> None:
    names = started.run("exporter", {"job": "probe"}, seconds=20).message["environment"]
    assert "PATH" in names
    assert not {"DATASITE_DATABASE_PASSWORD", "HOME", "USER"} & set(names)


@pytest.mark.process
def test_parents_end_with_the_pool_and_leave_no_folder(started: JobPool) -> None:
    parents, zygote = forked_by(started), started._zygote
    scratch = Path(started._scratch.name)  # type: ignore[union-attr]
    assert scratch.is_dir()
    for kind in pool_module.KINDS:  # else they would wait for a job: these stand-ins do not watch their lifeline
        started.run(kind, {"job": "probe"}, seconds=20)
    started.stop()
    assert zygote is not None
    assert zygote.poll() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in parents)
    assert not scratch.exists()


def standing_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(
        pool_module.subprocess,
        "Popen",
        lambda command, **options: POPEN([sys.executable, "-c", code], **options),
    )


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(1)", r"^The exporter ended before it was ready: datasite\.out in .* says what it printed\."),
        (
            "import sys; sys.stdin.read()",
            r"^The exporter did not come up within start_seconds=0\.5\. Raise start_seconds in settings\.toml if",
        ),
    ],
    ids=["ended", "hangs"],
)
def test_a_parent_that_does_not_become_ready_is_named_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    standing_in(monkeypatch, code)
    pool = JobPool({kind: tmp_path / f"{kind}.sock" for kind in pool_module.KINDS}, start_seconds=0.5)
    with pytest.raises(Unavailable, match=said):
        pool.start()
    pool.stop()
    assert pool._zygote is None


def test_a_parent_that_something_else_starts_is_waited_for_and_named_with_the_setting(tmp_path: Path) -> None:
    pool = JobPool(
        {kind: tmp_path / f"{kind}.sock" for kind in pool_module.KINDS}, start_parents=False, start_seconds=0.3
    )
    said = (
        r"^No exporter listened at .*exporter\.sock within start_seconds=0\.3\. Start it, mend jobs_directory, or raise"
    )
    with pytest.raises(Unavailable, match=said):
        pool.start()


@pytest.mark.process
def test_whoever_asks_for_a_job_reads_no_path_where_a_parent_does_not_start_again(
    started: JobPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started.run("runner", {"job": "probe"}, seconds=20)
    assert started._zygote is not None
    started._zygote.kill()
    started._zygote.wait()
    standing_in(monkeypatch, "raise SystemExit(1)")
    with pytest.raises(Unavailable, match="The runner of this datasite is not running") as told:
        started.run("runner", {"job": "probe"}, seconds=20)
    assert str(tmp_path) not in told.value.public_message
    assert "could not be started again: The runner ended before it was ready" in caplog.text
