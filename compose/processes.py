"""Real datasites as real processes, driven as their owners drive them: through `datasite` on the command line.

Nothing here imports the hospital's code. Every process that is started is ended by its own id.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Answer = TypeVar("Answer")
START_SECONDS = 300.0  # on a slow or loaded machine
RESEARCHER = "researcher@university.example"
STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the environment leads to loopback


class DemonstrationFailed(Exception):
    """A command of the demonstration failed; the message holds what it said."""


@dataclass
class Datasite:
    """One hospital's datasite: its directory, its address, and its serving process once started."""

    name: str
    title: str
    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where it listens, on loopback."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What the serving process writes; for the owner."""
        return self.directory.with_suffix(".log")

    def owner(self, *arguments: str) -> str:
        """Run one `datasite` command as the owner and return what it prints. Raises `DemonstrationFailed`."""
        command, *rest = arguments
        words = [command]
        if command == "researchers":
            words.append(rest.pop(0))
        done = subprocess.run(
            [*_datasite(), *words, "--dir", str(self.directory), *rest], capture_output=True, text=True, env=_quiet()
        )
        if done.returncode:
            raise DemonstrationFailed(
                f"{self.title}: datasite {' '.join(words)}: {(done.stderr or done.stdout).strip()}"
            )
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """The same with `--json`, read."""
        return json.loads(self.owner(*arguments, "--json"))

    def start(self) -> None:
        """Serve, and wait until it is healthy. Raises `DemonstrationFailed` with the end of its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_datasite(), "serve", "--dir", str(self.directory)],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, env=_quiet(),
            )  # fmt: skip
        started = time.monotonic()
        while not self._healthy():
            if self.process.poll() is not None or time.monotonic() - started > START_SECONDS:
                raise DemonstrationFailed(f"{self.title} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def approve_all(self) -> int:
        """Approve every request that waits for the owner, as `datasite approve` does; how many."""
        waiting = self.ask("requests", "--status", "checked")
        if waiting:
            self.owner("approve", *(str(request["id"]) for request in waiting), "--yes")
        return len(waiting)

    def stop(self) -> None:
        """End the serving process, by its id: asked first, killed after ten seconds."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)

    def _healthy(self) -> bool:
        try:
            with STRAIGHT.open(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def make_datasite(name: str, title: str, root: Path) -> Datasite:
    """Make a datasite's directory below `root`, with an owner's and a researcher's password in files of 0600."""
    datasite = Datasite(name, title, root / name, free_port())
    for who in ("owner", "researcher"):
        _secret_file(root / f"{name}.{who}")
    datasite.owner(
        "init", "--name", title, "--port", str(datasite.port), "--password-file", str(root / f"{name}.owner")
    )
    return datasite


def add_researcher(datasite: Datasite, root: Path) -> None:
    """Make the researcher's account, with the password in the researcher's file."""
    datasite.owner(
        "researchers", "add", RESEARCHER, "--name", "Demo Researcher", "--password-file",
        str(root / f"{datasite.name}.researcher"),
    )  # fmt: skip


def write_network(datasites: Sequence[Datasite], root: Path) -> Path:
    """Write the researcher's `network.toml`, as `compose/network.toml` shows it; its path."""
    tables = [
        f'[[datasites]]\nname = "{datasite.name}"\nurl = "{datasite.url}"\nemail = "{RESEARCHER}"\n'
        f'password_file = "{datasite.name}.researcher"\n'
        for datasite in datasites
    ]
    path = root / "network.toml"
    path.write_text("\n".join(tables), encoding="utf-8")
    return path


def everywhere(datasites: Sequence[Datasite], act: Callable[[Datasite], Answer]) -> list[Answer]:
    """Do the same at every datasite at once; answers in order. Raises the first failure."""
    with ThreadPoolExecutor(max_workers=max(1, len(datasites))) as pool:
        return list(pool.map(act, datasites))


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _secret_file(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(secrets.token_urlsafe(18))


def _datasite() -> list[str]:
    return [sys.executable, "-m", "datasites"]


def _quiet() -> dict[str, str]:
    """The environment of a command: no colours, one thread of arithmetic for each of several processes."""
    return {**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
