"""Certificates, a coordinator in this process, and `datasite dial-out` as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compose.authority import Authority, certificate_bytes, key_bytes, new_key
from researcher.coordinator import Coordinator
from tests.factories import free_port

TOKEN = "only-for-these-tests-0123456789"


def make_certificates(directory: Path, name: str = "localhost") -> Path:
    """`ca.pem`, `coordinator.pem`, `coordinator.key` and `token` in a directory."""
    authority, key = Authority.of(new_key(), [name]), new_key()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ca.pem").write_bytes(certificate_bytes(authority.certificate))
    (directory / "coordinator.pem").write_bytes(certificate_bytes(authority.certify(key, [name])))
    (directory / "coordinator.key").write_bytes(key_bytes(key))
    (directory / "token").write_text(TOKEN)
    return directory


def start_coordinator(certificates: Path, port: int | None = None, **options: Any) -> tuple[Coordinator, str]:
    """A coordinator in this process, and the address that hospitals dial."""
    port = port or free_port()
    pair = {
        "certificate": (certificates / "coordinator.pem").read_bytes(),
        "key": (certificates / "coordinator.key").read_bytes(),
    }
    coordinator = Coordinator(f"127.0.0.1:{port}", **pair, **options)
    coordinator.start()
    return coordinator, f"localhost:{port}"


class DialOutProcess:
    """`datasite dial-out` on a datasite's directory."""

    def __init__(self, directory: Path, address: str, ca: Path) -> None:
        self.directory, self.address, self.ca = directory, address, ca
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> DialOutProcess:
        command = ["-m", "datasites", "dial-out", self.address, "--ca", str(self.ca), "--dir", str(self.directory)]
        with (self.directory / "dial-out.out").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=os.environ)
        return self

    def log(self) -> str:
        return (self.directory / "dial-out.out").read_text()

    def state(self) -> dict[str, Any]:
        """What it wrote of its connection; empty before that."""
        files = list((self.directory / "dial-out").glob("*.json"))
        return dict(json.loads(files[0].read_text())) if files else {}

    def wait_until_connected(self, seconds: float = 60) -> None:
        wait_until(lambda: self.state().get("state") == "connected", self.log, seconds)

    def kill(self) -> None:
        """kill -9, and reap."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


def wait_until(holds: Callable[[], bool], said: Callable[[], str] = str, seconds: float = 60) -> None:
    """Return when something holds; fail with what was said where it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"It did not come about:\n{said()}")
        time.sleep(0.05)
