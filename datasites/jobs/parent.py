"""The warm parent of jobs: a program that has imported torch and forks one child for each connection.

    python -m datasites.jobs.parent {exporter|runner} SOCKET [--alone]

`datasite serve` starts no such program but the zygote (`jobs.zygote`), which forks a parent of each kind.

It reads no job and holds no row, key or result: the child reads its own connection. A job lives as long as its
connection does, so closing it, or the end of the datasite, ends the job. The parent ends when its standard input
ends; `--alone`, in a container of its own, it ends at SIGTERM instead, and its group may connect too. It never
draws randomness and never touches a python-dp mechanism: forked children would repeat its noise.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import warnings
from typing import NoReturn

from datasites.jobs import child, warming

MOST_JOBS = 8


def main(arguments: list[str]) -> None:
    """Warm up, listen on SOCKET and fork until standard input ends."""
    kind, path, *options = arguments
    alone = options == ["--alone"]
    if alone:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # an exception would be lost in a callback of torch's
    warnings.simplefilter("ignore")
    warming.warm_up(kind)
    listener = listening(path, mask=0o117 if alone else 0o177)
    share_memory()
    parent = Parent(kind, listener, watched=None if alone else 0)
    if alone:
        signal.signal(signal.SIGTERM, lambda *_: parent.end())
    print("ready", flush=True)
    parent.serve()


def listening(path: str, *, mask: int) -> socket.socket:
    """A socket that listens at `path`; `mask` are the rights that its file does not give."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(path):
        os.unlink(path)
    previous = os.umask(mask)
    listener.bind(path)
    os.umask(previous)
    listener.listen(64)
    return listener


def share_memory() -> None:
    """Let forks share what is here: no collection goes through it, which would copy its pages and take a job's time."""
    gc.collect()
    gc.freeze()


class Parent:
    """Accepts, forks, reaps; kills a child whose connection was hung up.

    Args:
      watched: a descriptor at whose end the parent ends, and with it every job; None for none.
    """

    def __init__(self, kind: str, listener: socket.socket, *, watched: int | None = 0) -> None:
        self.kind = kind
        self.watched = watched
        self.listener = listener
        self.jobs: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)

    def serve(self) -> NoReturn:
        """Run until what is watched ends, and this process with it."""
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(self.wake_read, selectors.EVENT_READ)
        if self.watched is not None:
            self.selector.register(self.watched, selectors.EVENT_READ)
        while True:
            # A hang-up of a connection does not wake a selector that is not reading it, hence the short wait.
            ready = {key.fd for key, _ in self.selector.select(0.25 if self.jobs else None)}
            if self.watched in ready and not os.read(self.watched, 4096):
                self.end()
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
            self._reap()
            self._kill_the_hung_up()
            if self.listener.fileno() in ready and len(self.jobs) < MOST_JOBS:
                self._fork()

    def _fork(self) -> None:
        connection, _ = self.listener.accept()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the job is known, which it ends
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            child.run(connection, self.kind)  # never returns
        self.jobs[pid] = connection
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _reap(self) -> None:
        for pid in list(self.jobs):
            done, _ = os.waitpid(pid, os.WNOHANG)
            if done:
                self.jobs.pop(pid).close()

    def _kill_the_hung_up(self) -> None:
        import select

        for pid, connection in self.jobs.items():
            poll = select.poll()
            poll.register(connection, 0)
            if poll.poll(0):  # only POLLHUP or POLLERR can be reported
                os.kill(pid, signal.SIGKILL)

    def end(self) -> NoReturn:
        """End every job and this process; an interpreter that holds torch takes a second to end by itself."""
        for pid in self.jobs:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
