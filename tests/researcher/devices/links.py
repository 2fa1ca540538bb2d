"""A real SuperLink, devices as nodes of their own, and apps that `flwr run` hands in: each of them a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from docs.generator import DOCS
from tests.factories import free_port
from tests.relays.connections import make_certificates

APP = DOCS.parent / "examples" / "devices"
PROGRAMS = Path(sys.executable).parent
PATIENCE = 120.0  # seconds for any one thing to happen, on a busy machine


class Link:
    """A SuperLink over TLS with a certificate of its own, as an operator starts it."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.certificates = make_certificates(place / "certificates")
        self.address = f"localhost:{self.port}"
        home = place / "flower"
        home.mkdir()
        authority = self.certificates / "ca.pem"
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{self.address}"\n'
            f'root-certificates = "{authority}"\n'
        )
        path = os.pathsep.join((str(PROGRAMS), os.environ.get("PATH", "")))
        self.environment = os.environ | {
            "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "PATH": path,
            "PYTHONPATH": str(DOCS.parent), "NO_COLOR": "1", "COLUMNS": "200",
        }  # fmt: skip

    def command(self) -> list[str]:
        """That starts it."""
        certificates = self.certificates
        return [
            "flower-superlink", "--host", "localhost", "--port", str(self.port),
            "--disable-runtime-dependency-installation", "--ssl-certfile", str(certificates / "coordinator.pem"),
            "--ssl-keyfile", str(certificates / "coordinator.key"), "--ssl-ca-certfile", str(certificates / "ca.pem"),
        ]  # fmt: skip

    @contextmanager
    def started(self, name: str, command: list[str]) -> Iterator[Path]:
        """A process and all that it starts, ended afterwards; what it said is in the file."""
        log = self.place / f"{name}.log"
        with log.open("wb") as into:
            process = subprocess.Popen(
                command, stdout=into, stderr=into, env=self.environment, cwd=self.place, start_new_session=True
            )
        try:
            yield log
        finally:
            for how in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, how)
                    process.wait(timeout=10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
            process.wait()

    def run(self, app: Path, **settings: object) -> str:
        """What `flwr run` of an app prints, until the run has ended."""
        command = ["flwr", "run", str(app), "here", "--stream"]
        for name, value in settings.items():
            command += ["--run-config", f"{name.replace('_', '-')}={value}"]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, cwd=self.place
        )
        return done.stdout + done.stderr


@contextmanager
def linked(place: Path) -> Iterator[Link]:
    """A SuperLink that listens."""
    link = Link(place)
    with link.started("superlink", link.command()) as log:
        until(lambda: listens(link.port), log)
        yield link


@contextmanager
def device_node(link: Link, directory: Path, *, budget: float = 2.0) -> Iterator[None]:
    """A device as a node of its own, once the SuperLink knows it."""
    command = [
        sys.executable, "-m", "researcher.devices.node", link.address, str(directory), "--budget", str(budget),
        "--ca", str(link.certificates / "ca.pem"),
    ]  # fmt: skip
    with link.started(f"node {directory.name}", command) as log:
        until(lambda: "answers as the device" in log.read_text(), log)
        yield


def until(happened: object, log: Path) -> None:
    """Wait for something."""
    end = time.monotonic() + PATIENCE
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Whether somebody answers at a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def written_app(place: Path, files: Mapping[str, str]) -> Path:
    """A copy of the example app with other files in it."""
    app = place / "app"
    (app / "team").mkdir(parents=True)
    for file in APP.rglob("*"):
        if file.suffix in (".py", ".toml"):
            (app / file.relative_to(APP)).write_text(file.read_text())
    for name, text in files.items():
        (app / "team" / name).write_text(text)
    return app
