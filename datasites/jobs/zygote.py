"""The zygote: a program that imports once what both warm parents need, and forks them.

    python -m datasites.jobs.zygote exporter=SOCKET runner=SOCKET

It reads a kind a line from its standard input, forks a parent of that kind unless one is there, and answers with a
line: `runner ready` once that parent listens, `runner ended` where it ended before. It ends with its standard input,
and with it both parents and every job of theirs. Where it is killed itself, they end too.

It is forked from as long as nothing has happened in it: it imports, listens nowhere, and holds no row, key, setting or
result. What only one kind needs, that parent imports after the fork: a runner never has the exporter, in which a
researcher's Python runs, and an exporter has neither noise nor training. Each parent keeps of the zygote's files its
own lifeline and the owner's log alone. In containers nothing is shared: each parent is a program there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from datasites.jobs import parent, warming
from datasites.jobs.isolation import close_descriptors, end_with_parent

ENDING_SECONDS = 5.0  # what a parent may take to end with its jobs before it is killed
REAPING_SECONDS = 0.5


def main(arguments: list[str]) -> None:
    """Import what both kinds need, then fork on request until standard input ends."""
    sockets = dict(argument.split("=", 1) for argument in arguments)
    warnings.simplefilter("ignore")
    warming.import_what_both_need()
    parent.share_memory()
    Zygote(sockets).serve()


@dataclass
class Forked:
    """A parent: its process, where it says that it is ready, and what it watches as long as it lives."""

    pid: int
    ready: int  # -1 once it has said so
    lifeline: int


class Zygote:
    """Forks parents, says when they are ready or that they ended, and ends them."""

    def __init__(self, sockets: dict[str, str]) -> None:
        self.sockets = sockets
        self.forked: dict[str, Forked] = {}
        self._asked = b""

    def serve(self) -> None:
        """Run until standard input ends."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            waiting = {forked.ready: kind for kind, forked in self.forked.items() if forked.ready >= 0}
            readable, _, _ = select.select([0, wake_read, *waiting], [], [])
            if wake_read in readable:
                os.read(wake_read, 4096)
            for descriptor in readable:
                if descriptor in waiting:
                    self._hear(waiting[descriptor])
            self._reap()
            if 0 in readable and not self._read():
                self._end()
                return

    def _read(self) -> bool:
        """Fork what is asked for; False at the end."""
        more = os.read(0, 4096)
        *lines, self._asked = (self._asked + more).split(b"\n")
        for line in lines:
            kind = line.decode()
            if kind not in self.sockets:
                continue
            forked = self.forked.get(kind)
            if forked is None or (forked.ready < 0 and self._has_ended(kind)):
                self._fork(kind)
            elif forked.ready < 0:
                _say(kind, "ready")
        return bool(more)

    def _has_ended(self, kind: str) -> bool:
        """Whether a parent that is asked for has ended: its socket is gone a moment before it can be reaped."""
        deadline = time.monotonic() + REAPING_SECONDS
        while kind in self.forked and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.01)
        return kind not in self.forked

    def _fork(self, kind: str) -> None:
        if (threads := _threads()) != 1:  # a fork would hang at what another thread had locked
            raise RuntimeError(f"The zygote has {threads} threads and forks with one alone.")
        (ready_read, ready_write), (lifeline_read, lifeline_write) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(kind, self.sockets[kind], ready=ready_write, lifeline=lifeline_read)
        os.close(ready_write)
        os.close(lifeline_read)
        self.forked[kind] = Forked(pid, ready_read, lifeline_write)

    def _hear(self, kind: str) -> None:
        forked = self.forked[kind]
        _say(kind, "ready" if os.read(forked.ready, 1) else "ended")
        os.close(forked.ready)
        forked.ready = -1

    def _reap(self) -> None:
        for kind, forked in list(self.forked.items()):
            if forked.ready >= 0:
                continue  # whoever asked for it is told first
            done, _ = os.waitpid(forked.pid, os.WNOHANG)
            if done:
                os.close(forked.lifeline)
                del self.forked[kind]

    def _end(self) -> None:
        for forked in self.forked.values():
            os.close(forked.lifeline)
            if forked.ready >= 0:  # it warms up and has no job yet
                os.kill(forked.pid, signal.SIGKILL)
        deadline = time.monotonic() + ENDING_SECONDS
        for forked in self.forked.values():
            while not os.waitpid(forked.pid, os.WNOHANG)[0]:
                if time.monotonic() > deadline:
                    os.kill(forked.pid, signal.SIGKILL)
                time.sleep(0.01)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _say(kind: str, what: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{kind} {what}\n".encode())


def _become(kind: str, path: str, *, ready: int, lifeline: int) -> NoReturn:
    """Be the warm parent of a kind, with two pipes and standard error of all that the zygote has open."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.dup(2)
        close_descriptors({ready, lifeline, log})
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        Path("/proc/self/comm").write_text(kind, encoding="ascii")  # what `ps` and `top` show
        end_with_parent(True)
        warming.warm_up(kind)
        listener = parent.listening(path, mask=0o177)
        parent.share_memory()
        end_with_parent(False)  # from here on it sees its lifeline end, and ends its jobs first
        os.write(ready, b"r")
        os.close(ready)
        parent.Parent(kind, listener, watched=lifeline).serve()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # an interpreter that holds torch takes a second to end by itself
