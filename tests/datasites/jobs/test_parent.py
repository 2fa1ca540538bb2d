"""The warm parent: forks one child a connection, kills who is hung up, and ends with what it watches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasites.jobs import child, parent
from datasites.jobs.parent import MOST_JOBS, Parent


class Served:
    """A parent in a process of its own, whose jobs say `hello` and stay until they are killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        watched, self.alive = os.pipe()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        self.process = os.fork()
        if self.process == 0:
            status = 1
            try:
                os.close(self.alive)
                child.run = _stays  # type: ignore[assignment]
                Parent("runner", listener, watched=watched).serve()
                status = 0
            finally:
                os._exit(status)
        listener.close()
        os.close(watched)

    def connect(self) -> tuple[socket.socket, int]:
        """A job: its connection, and its process."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(str(self.path))
        return connection, int(connection.recv(100))

    def children(self) -> set[int]:
        return {int(pid) for pid in Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()}

    def end(self) -> int:
        """Close what it watches; its exit status."""
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1
            self.status = os.waitpid(self.process, 0)[1]
        return self.status


def _stays(connection: socket.socket, kind: str) -> None:
    connection.sendall(str(os.getpid()).encode())
    time.sleep(60)
    os._exit(0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "runner.sock")
    yield served
    served.end()


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def test_each_connection_gets_a_process_of_its_own(served: Served) -> None:
    jobs = [served.connect() for _ in range(3)]
    assert {pid for _, pid in jobs} == served.children()
    assert len(served.children()) == 3
    for connection, _ in jobs:
        connection.close()


def test_a_job_whose_connection_is_closed_is_killed_and_the_others_stay(served: Served) -> None:
    (first, gone), (second, stays) = served.connect(), served.connect()
    first.close()
    assert until(lambda: served.children() == {stays})
    assert gone not in served.children()
    second.close()


def test_a_job_beyond_the_most_waits_for_a_place(served: Served) -> None:
    jobs = [served.connect() for _ in range(MOST_JOBS)]
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(served.path))
    waiting.settimeout(0.7)
    with pytest.raises(TimeoutError):
        waiting.recv(100)
    jobs[0][0].close()
    waiting.settimeout(10)
    assert int(waiting.recv(100)) in served.children()
    for connection, _ in jobs[1:]:
        connection.close()
    waiting.close()


def test_the_end_of_what_it_watches_ends_it_and_every_job(served: Served) -> None:
    _, pid = served.connect()
    assert served.end() == 0
    assert until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


ALONE = """
import os, sys, time, weakref
from datasites.jobs import child, parent, warming

class Model: ...

def in_a_callback(seconds):
    model = Model()
    reference = weakref.ref(model, lambda _: (print("in a callback", flush=True), time.sleep(seconds)))
    del model
    print("out of it", flush=True)

def stays(connection, kind):
    connection.sendall(str(os.getpid()).encode())
    time.sleep(60)
    os._exit(0)

warming.warm_up = lambda kind: in_a_callback(60) if "busy" in sys.argv else None
child.run = stays
parent.main(["runner", sys.argv[1], "--alone"])
"""


@pytest.mark.process
def test_alone_it_ends_at_sigterm_with_its_jobs(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ALONE, str(tmp_path / "s")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(tmp_path / "s"))
            job = int(connection.recv(100))
            process.terminate()
            assert process.wait(20) == 0
            assert until(lambda: not Path(f"/proc/{job}").exists() or "Z" in Path(f"/proc/{job}/stat").read_text())


@pytest.mark.process
def test_sigterm_ends_it_in_a_callback_too_where_an_exception_would_be_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ALONE, str(tmp_path / "s"), "busy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in a callback\n"
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout.read() == b""


def test_it_warms_up_before_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Warmed(Exception): ...

    def warm_up(kind: str) -> None:
        assert kind == "runner"
        assert not (tmp_path / "socket").exists()
        raise Warmed

    monkeypatch.setattr(parent.warming, "warm_up", warm_up)
    with pytest.raises(Warmed):
        parent.main(["runner", str(tmp_path / "socket")])
