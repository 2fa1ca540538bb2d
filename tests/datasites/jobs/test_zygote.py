"""The zygote: forks a parent a kind on request, says what became of it, and nobody outlives it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasites.jobs.zygote import Zygote

# A zygote that imports nothing; its parents say what they are, and their jobs stay until they are killed.
PROGRAM = """
import os, sys, time
from datasites.jobs import child, parent, warming, zygote

def stays(connection, kind):
    connection.sendall(f"{kind} {os.getpid()}".encode())
    time.sleep(60)
    os._exit(0)

def warm_up(kind):
    print(f"warming {kind}")
    if os.path.exists(sys.argv[1].split("=")[1] + ".broken"):
        raise RuntimeError("broken")
    while os.path.exists(sys.argv[1].split("=")[1] + ".slow"):
        time.sleep(0.01)

warming.import_what_both_need = lambda: None
warming.warm_up = warm_up
child.run = stays
zygote.main(sys.argv[1:])
os._exit(0)
"""
KINDS = ("exporter", "runner")


class Started:
    """A zygote, and what it says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *(f"{kind}={directory / kind}" for kind in KINDS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self.job_connections: list[object] = []

    def ask(self, *kinds: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{kind}\n" for kind in kinds).encode())

    def hear(self, count: int = 1) -> set[str]:
        assert self.process.stdout is not None
        text = b""
        while text.count(b"\n") < count:
            assert select.select([self.process.stdout], [], [], 20)[0]
            part = os.read(self.process.stdout.fileno(), 100)
            assert part
            text += part
        return set(text.decode().split("\n")) - {""}

    def parents(self) -> dict[str, int]:
        """Process of each parent that it has, by the name that `ps` shows."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {Path(f"/proc/{child}/comm").read_text().strip(): int(child) for child in children}

    def connect(self, kind: str) -> tuple[str, int]:
        import socket

        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self.directory / kind))
        self.job_connections.append(connection)
        said, pid = connection.recv(100).decode().split()
        return said, int(pid)

    def end(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(20)
        self.process.stdout.close()
        return status


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path)
    yield made
    made.end()


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.process
def test_it_forks_what_is_asked_for_and_each_kind_does_its_own_jobs(started: Started) -> None:
    started.ask("runner")
    assert started.hear() == {"runner ready"}
    assert set(started.parents()) == {"runner"}
    started.ask(*KINDS)
    assert started.hear(2) == {"exporter ready", "runner ready"}
    assert set(started.parents()) == set(KINDS)
    for kind in KINDS:
        assert started.connect(kind)[0] == kind
        assert (started.directory / kind).stat().st_mode & 0o777 == 0o600


@pytest.mark.process
def test_a_parent_has_its_listener_its_lifeline_and_the_log_alone(started: Started) -> None:
    """Neither the zygote's standard input and output nor anything of the other parent."""
    started.ask(*KINDS)
    started.hear(2)
    seen: dict[str, set[str]] = {}
    for kind, pid in started.parents().items():
        until = time.monotonic() + 20
        while (
            "anon_inode:[eventpoll]" not in seen.get(kind, ()) and time.monotonic() < until
        ):  # it has said so, and begins
            with contextlib.suppress(FileNotFoundError):  # it closed one meanwhile
                seen[kind] = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    for kind, files in seen.items():
        others = [name for name in files if name.startswith(("pipe:", "socket:"))]
        assert files - set(others) == {"/dev/null", str(started.directory / "log"), "anon_inode:[eventpoll]"}, kind
        assert len(others) == 3  # listener, lifeline, and the pipe at which its own signals arrive
    own = {os.readlink(f"/proc/{started.process.pid}/fd/{stream}") for stream in (0, 1)}
    assert not own & (seen["exporter"] | seen["runner"])
    assert {name for name in seen["exporter"] & seen["runner"] if name.startswith(("pipe:", "socket:"))} == set()
    assert "warming runner" in (started.directory / "log").read_text()  # what a parent prints is the owner's


@pytest.mark.process
def test_a_parent_that_was_killed_is_forked_again_when_it_is_asked_for(started: Started) -> None:
    started.ask(*KINDS)
    started.hear(2)
    before = started.parents()
    os.kill(before["runner"], signal.SIGKILL)
    started.ask("runner")
    assert started.hear() == {"runner ready"}
    after = started.parents()
    assert after["exporter"] == before["exporter"]
    assert after["runner"] != before["runner"]
    assert started.connect("runner")[0] == "runner"


@pytest.mark.process
def test_a_parent_that_ends_before_it_is_ready_is_said_to_have_ended(started: Started) -> None:
    broken = started.directory / "exporter.broken"
    broken.touch()
    started.ask("runner")
    assert started.hear() == {"runner ended"}
    assert "RuntimeError: broken" in (started.directory / "log").read_text()
    broken.unlink()
    started.ask("runner")
    assert started.hear() == {"runner ready"}


@pytest.mark.process
def test_with_its_standard_input_everything_ends(started: Started) -> None:
    started.ask(*KINDS)
    started.hear(2)
    everyone = [*started.parents().values(), *(started.connect(kind)[1] for kind in KINDS)]
    assert started.end() == 0
    assert until(lambda: all(gone(pid) for pid in everyone))


@pytest.mark.process
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "warming up"])
def test_whoever_it_forked_ends_where_it_is_killed_itself(started: Started, warm: bool) -> None:
    slow = started.directory / "exporter.slow"
    if warm:
        started.ask(*KINDS)
        started.hear(2)
        jobs = [started.connect(kind)[1] for kind in KINDS]
    else:
        slow.touch()
        started.ask(*KINDS)
        assert until(lambda: set(started.parents()) == set(KINDS))
        jobs = []
    everyone = [*started.parents().values(), *jobs]
    assert len(everyone) == (4 if warm else 2)
    started.process.kill()
    assert until(lambda: all(gone(pid) for pid in everyone))


@pytest.mark.process
def test_a_parent_that_warms_up_ends_with_standard_input(started: Started) -> None:
    (started.directory / "exporter.slow").touch()
    started.ask(*KINDS)
    assert until(lambda: set(started.parents()) == set(KINDS))
    everyone = started.parents().values()
    begin = time.monotonic()
    assert started.end() == 0
    assert time.monotonic() - begin < 5
    assert all(gone(pid) for pid in everyone)


def test_it_forks_nothing_while_it_has_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that the other thread held would be held in the child for ever."""
    monkeypatch.setattr("os.fork", lambda: pytest.fail("It forked."))
    monkeypatch.setattr("datasites.jobs.zygote._threads", lambda: 2)
    with pytest.raises(RuntimeError, match="2 threads"):
        Zygote({"runner": "nowhere"})._fork("runner")
