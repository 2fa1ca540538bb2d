"""The network of compose/compose.yaml, started once for all tests here; `make test-containers` runs them.

They need a Docker engine, whose absence fails them. They run in the order of their files: the study comes last.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from compose.containers import DIALS_OUT, TABLES, Containers

PROJECT = "datasites-test"
HOSPITALS = tuple(TABLES)
REACHED = tuple(hospital for hospital in HOSPITALS if hospital not in DIALS_OUT)  # through the gateway
SERVED = (*HOSPITALS, "gateway", "database", "researcher", "coordinator", "paediatric-dial-out")
LEDGER_IN_A_FILE = "ledger=\nledger_password_file="
JOBS = tuple(f"{hospital}-{kind}" for hospital in HOSPITALS for kind in ("exporter", "runner"))


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def network() -> Iterator[Containers]:
    """The whole network, built, started and published; removed afterwards with all that it kept."""
    os.environ["GATEWAY_PORT"], os.environ["NOTEBOOK_PORT"] = str(free_port()), str(free_port())
    found = Containers(PROJECT)
    found.down(volumes=True)
    begun = time.monotonic()
    found.build(quiet=True)
    built = time.monotonic()
    os.environ["RURAL_SETTINGS"] = LEDGER_IN_A_FILE
    found.up(quiet=True)
    found.publish("rural")
    del os.environ["RURAL_SETTINGS"]
    found.up("rural", quiet=True)  # moves its ledger into the database, as for a network of an earlier version
    found.introduce()
    print(f"\nImages built in {built - begun:.0f} s, network up in {time.monotonic() - built:.0f} s.")
    yield found
    found.down(volumes=True)


@pytest.fixture(scope="session")
def published(network: Containers) -> Containers:
    """The network with every hospital's table published and the researcher's accounts made."""
    for hospital in HOSPITALS:
        assert network.publish(hospital) == (hospital != "rural")
    return network
