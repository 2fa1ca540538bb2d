"""What the Docker engine says of the network's containers, and what a hospital's ledger does."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from compose.containers import Containers


def docker(*words: str) -> str:
    """What a docker command prints."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def container(network: Containers, service: str) -> str:
    """A service's container, running or not."""
    return network.compose("ps", "-aq", service).stdout.strip()


def inspected(network: Containers, service: str) -> dict[str, Any]:
    """What `docker inspect` tells of a service's container."""
    found: dict[str, Any] = json.loads(docker("inspect", container(network, service)))[0]
    return found


def wait_until(true: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Return when `true()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.3)


def healthy(network: Containers, service: str) -> bool:
    """Whether a service answers its own health check now."""
    health = "python3 /usr/local/lib/healthy.py https://localhost:9400/healthz /secrets/ca.pem 2>/dev/null"
    return network.run(service, "sh", "-c", health, check=False).returncode == 0


def spent_by(network: Containers, hospital: str) -> float:
    """The ε that a hospital's population has spent."""
    [population] = network.ask(hospital, "datasets")["populations"]
    return float(population["epsilon_spent"])


def rounds(network: Containers, hospital: str) -> int:
    """How many rounds a hospital has begun; none where it does not answer."""
    said = network.owner(hospital, "runs", "--json", check=False)
    return int(json.loads(said.stdout)["count"]) if said.returncode == 0 else 0


def entries(network: Containers, hospital: str) -> list[dict[str, str]]:
    """Every entry of a hospital's ledger, oldest first, as `datasite export ledger` writes it."""
    return list(csv.DictReader(io.StringIO(network.owner(hospital, "export", "ledger").stdout)))
