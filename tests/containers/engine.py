"""What the Docker engine says of the network's containers."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from compose.containers import Containers


def docker(*words: str) -> str:
    """What a docker command prints."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def inspected(network: Containers, service: str) -> dict[str, Any]:
    """What `docker inspect` tells of a service's container."""
    container = network.compose("ps", "-aq", service).stdout.strip()
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found
