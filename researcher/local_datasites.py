"""A datasite of this machine's own, for a table that lies here: its engine, its ledger, its certificates.

A researcher's package has no engine. Where the datasite's is installed beside it (`private-datasites[datasite]`, on
Linux), it is started as any hospital runs it: a process of its own, asked over the wire on loopback, driven by the
command `datasite`. Nothing of it is imported here. It serves until this process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies.errors import InvalidRequest, Unavailable
from researcher.cohort import Cohort
from researcher.network import connect

EMAIL = "you@this-machine.example"
POPULATION = "records"
START_SECONDS = 300.0
NEEDED = ("syft", "opacus", "numba", "pydp")
STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the environment leads here

POLICY = """\
# Of a datasite on this machine, whose owner and researcher are one person: what the budget holds is approved at once.
max_epsilon = 100
max_delta = 0.01
min_noise_multiplier = 0.05
min_batch = 1
max_rounds = 1000
max_steps = 100000000
max_parameters = 5000000
min_patients = 1
typed_confirmation_epsilon = 100
approve_at_once_epsilon = 100
"""

_serving: dict[Path, LocalDatasite] = {}


def local_datasite(directory: Path, *, epsilon: float, delta: float) -> LocalDatasite:
    """The datasite of a directory, made there where there is none, and serving.

    Args:
      epsilon, delta: the budget of its records, where it has none yet.

    Raises:
      InvalidRequest: the datasite's engine is not installed here, or the directory is something else.
      Unavailable: it did not start; the message says where its log is.
    """
    directory = directory.expanduser().resolve()
    datasite = _serving.get(directory)
    if datasite is None or not datasite.serves():
        _check_installed()
        datasite = LocalDatasite(directory, epsilon=epsilon, delta=delta)
        datasite.start()
        _serving[directory] = datasite
    return datasite


def _check_installed() -> None:
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking or not sys.platform.startswith("linux"):
        why = f"{', '.join(lacking)} cannot be imported" if lacking else f"this is {sys.platform}"
        raise InvalidRequest(
            f"Training on a table of your own runs the datasite's engine here, on Linux, and {why}. Install it beside"
            ' this: pip install "private-datasites[datasite,researcher]".'
        )


class LocalDatasite:
    """One directory with a datasite in it, and the process that serves it."""

    def __init__(self, directory: Path, *, epsilon: float, delta: float) -> None:
        self.directory, self.epsilon, self.delta = directory, epsilon, delta
        self._home = directory / "datasite"
        self._password = directory / "password"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self._home / "ledger.db"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def serves(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Make it where there is none, and serve. Raises `Unavailable`."""
        if self.directory.exists() and not self._home.exists() and any(self.directory.iterdir()):
            raise InvalidRequest(f"{self.directory} holds something else than a ledger. Name another directory.")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._port = _free_port()
        if not self._home.exists():
            self._make()
        else:
            self._run("settings", f"port={self._port}")
        with (self.directory / "datasite.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "datasites", "serve", "--dir", str(self._home)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=_quiet(),
            )
        atexit.register(self.stop)
        self._wait()
        if not (self.directory / "ready").exists():
            self._run("researchers", "add", EMAIL, "--name", "You", "--password-file", str(self._password))
            (self.directory / "ready").touch()

    def publish(self, table: Path, schema: Path, *, patients: int) -> None:
        """Publish a table, whose number of rows is declared public. Raises `InvalidRequest` with what is against it."""
        budget = ("--budget-epsilon", repr(self.epsilon), "--budget-delta", repr(self.delta))
        self._run("publish", str(table), "--schema", str(schema), "--patients", str(patients), *budget)

    def cohort(self, name: str) -> Cohort:
        """The published table as a cohort of this one datasite."""
        password = self._password.read_text(encoding="utf-8").strip()
        entry: Mapping[str, Any] = {
            "name": "this machine",
            "url": self.url,
            "email": EMAIL,
            "password": password,
        }
        return connect([entry]).dataset(name)

    def publishes(self, name: str) -> bool:
        """Whether a dataset of that name is published."""
        with contextlib.suppress(InvalidRequest):
            return bool(self.cohort(name).members)
        return False

    def stop(self) -> None:
        """End the process, by its id: asked first, killed after ten seconds."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)

    def _make(self) -> None:
        descriptor = os.open(self._password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(18))
        self._run(
            "init", "--name", "This machine", "--port", str(self._port), "--password-file", str(self._password),
            "--set", "isolation=reported",
        )  # fmt: skip
        (self._home / "policy.toml").write_text(POLICY, encoding="utf-8")

    def _run(self, *arguments: str) -> str:
        """One `datasite` command. Raises `InvalidRequest` with what it said."""
        groups = 2 if arguments[0] == "researchers" else 1
        command = [*arguments[:groups], "--dir", str(self._home), *arguments[groups:]]
        done = subprocess.run(
            [sys.executable, "-m", "datasites", *command], capture_output=True, text=True, env=_quiet(), check=False
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().removeprefix("Error: ")
            raise InvalidRequest(f"The datasite of {self.directory} refused: {said[:2000]}")
        return done.stdout

    def _wait(self) -> None:
        started = time.monotonic()
        while time.monotonic() - started < START_SECONDS:
            if not self.serves():
                break
            try:
                with STRAIGHT.open(f"{self.url}/healthz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.stop()
        raise Unavailable(f"The datasite of this machine did not start. {self.directory / 'datasite.log'} says why.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quiet() -> dict[str, str]:
    return {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "COLUMNS": "200"}
