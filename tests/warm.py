"""Python programs that start warm: forked from a process that has imported their libraries and nothing of ours.

PySyft takes seconds to import, and our tests serve some forty datasites. A fork of a process that holds these libraries
is a new process with its own memory, files and end: it runs `python -m MODULE` or `python FILE` from the first line on,
and imports all modules of ours itself. PySyft is there as a datasite imports it, without torch. What it does not show
is that a program starts from nothing: `tests/compose` does, and the kills of a runner in `tests/crash`.

    python -m tests.warm SOCKET         the parent; it ends when its standard input does
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "jinja2",
    "numpy.random",
    "prometheus_client",
    "pyarrow.parquet",
    "rich.console",
    "safetensors.numpy",
    "sqlalchemy.dialects.postgresql",
    "starlette.templating",
    "datasites.door.syft",  # which imports PySyft; it is let go of again
    "syft.server.routes",
    "typer",
    "uvicorn",
)
LONGEST_MESSAGE = 1 << 20


# -- who starts programs ---------------------------------------------------------------------------------------------


class WarmProgram:
    """A program that was started warm, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, connection: socket.socket, arguments: Sequence[str]) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._connection = connection
        self._said = b""
        while b"\n" not in self._said:
            self._read()
        number, _, self._said = self._said.partition(b"\n")
        self.pid = int(number)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self) -> None:
        said = self._connection.recv(100)
        if not said:
            raise AssertionError(f"{self.args} could not be started warm: its keeper is gone")
        self._said += said

    def _end(self) -> None:
        while b"\n" not in self._said:
            self._read()
        self.returncode = int(self._said)
        self._connection.close()


class Warm:
    """The parent of warm programs, started when first needed and ended with this process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._path = Path(self._folder.name) / "socket"
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._ready = False
        self._programs: list[WarmProgram] = []

    def start(
        self, arguments: Sequence[str], *, stdout: int, stderr: int, environment: Mapping[str, str] | None = None
    ) -> WarmProgram:
        """Start `python ARGUMENTS`, where they begin with `-m MODULE` or with a file.

        Args:
          stdout, stderr: open files that it writes to.
        """
        self._wait_until_ready()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self._path))
        given = os.environ if environment is None else environment
        wanted = {"arguments": list(arguments), "directory": os.getcwd(), "environment": dict(given)}
        message = json.dumps(wanted).encode()
        socket.send_fds(connection, [len(message).to_bytes(4, "big")], [stdout, stderr])
        connection.sendall(message)
        program = WarmProgram(connection, arguments)
        self._programs.append(program)
        return program

    def stop(self) -> None:
        """End the parent, and every program that still runs."""
        for program in self._programs:
            program.kill()
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(timeout=30)
        self._parent.stdout.close()
        self._folder.cleanup()

    def _wait_until_ready(self) -> None:
        if not self._ready:
            assert self._parent.stdout is not None
            assert self._parent.stdout.readline() == b"ready\n", "the parent of warm programs did not start"
            self._ready = True


@functools.cache
def warm() -> Warm:
    """This process's own parent of warm programs."""
    made = Warm()
    atexit.register(made.stop)
    return made


# -- the parent ------------------------------------------------------------------------------------------------------


def main(path: str) -> None:
    """Import the libraries, then fork a keeper for each connection until standard input ends; never returns."""
    before = _ours()  # none, but where `tests.attacks.without` took a defence out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)
    for name in _ours() - before:  # every program imports them itself
        del sys.modules[name]
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, lambda *_: _reap(os.WNOHANG))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end their programs
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                _reap(0)
                os._exit(0)  # an interpreter with these libraries takes a second to end by itself
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _keep(connection)  # never returns
            connection.close()


def _ours() -> set[str]:
    return {name for name in sys.modules if name.split(".")[0] in ("policies", "datasites", "researcher")}


def _reap(options: int) -> None:
    """Wait for keepers that ended, or for all of them; so that what they used is counted as used by the tests."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _keep(connection: socket.socket) -> None:
    """Fork the program, tell its number and its end; it ends where whoever asked for it is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wanted, files = _read_request(connection)
    program = os.fork()
    if program == 0:
        connection.close()
        _become(wanted, files)  # never returns
    for each in files:
        os.close(each)
    ended = os.pidfd_open(program)
    try:
        connection.sendall(f"{program}\n".encode())
        if connection in select.select([connection, ended], [], [])[0]:
            os.kill(program, signal.SIGKILL)
        status = os.waitpid(program, 0)[1]
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, signal.SIGKILL)
    os._exit(0)


def _read_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, files, _, _ = socket.recv_fds(connection, 4, 2)
    length = int.from_bytes(head, "big")
    assert length <= LONGEST_MESSAGE
    message = b""
    while len(message) < length:
        message += connection.recv(length - len(message))
    return json.loads(message), files


def _become(wanted: dict[str, Any], files: list[int]) -> None:
    """Run the program as Python would: its arguments, environment, folder, files, and no randomness of the parent's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nowhere, 0), (files[0], 1), (files[1], 2)):
        os.dup2(source, target)
    for each in (nowhere, *files):
        os.close(each)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted["directory"])
    _draw_anew()
    code = 1
    try:
        _run(wanted["arguments"])
        code = 0
    except SystemExit as leaving:
        code = _exit_code(leaving)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _draw_anew() -> None:
    """Forks of one parent would share the state of each library's generator."""
    import numpy

    random.seed()
    numpy.random.seed()


def _run(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    print(leaving.code, file=sys.stderr)
    return 1


def _leave(code: int) -> None:
    """End as an interpreter does: wait for threads, run what was registered, write what is buffered."""
    import threading

    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
