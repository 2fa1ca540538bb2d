"""Training over containers of which only the mean is read, with a hospital that lies and one that is killed.

It comes after the whole study, whose ledgers are compared with what that study alone may spend.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from compose.containers import Containers
from tests.containers.conftest import HOSPITALS

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

RUN = ("python3", "-m", "compose.in_sums")
STEPS = ["keys", "shares", "boxes", "survivors", "reveal"]


def said(network: Containers, name: str, *words: str) -> dict[str, Any]:
    """What a run in the researcher's container printed."""
    lines = network.run("researcher", *RUN, "run", name, "--directory", "/home/researcher/sums", *words).stdout
    found: dict[str, Any] = json.loads(lines.strip().splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def approved(published: Containers) -> Containers:
    """Both studies submitted, and approved by every owner after a look at the roster's keys."""
    network = published
    network.up("general", quiet=True)  # stopped by the tests of backups
    for name in ("flu-liar", "flu-killed"):
        network.run("researcher", *RUN, "submit", name, "--directory", "/home/researcher/sums")
    own = {hospital: network.ask(hospital, "key")["hospitals"][0]["words"] for hospital in HOSPITALS}
    for hospital in HOSPITALS:
        for request in network.ask(hospital, "requests", "--status", "checked"):
            roster = network.ask(hospital, "key", request["id"])["hospitals"]
            assert sorted(party["words"] for party in roster) == sorted(own.values())
        network.approve_all(hospital)
    return network


def check_nothing_is_read_alone(found: dict[str, Any]) -> None:
    """Every release is of masked words, which are uniform: their mean is within 5 σ of the middle."""
    assert found["kinds"] == ["uint32"]
    assert abs(found["mean_word"] - 0.5) < 5 / np.sqrt(12 * found["words"])
    assert found["finite"]
    assert found["largest_weight"] < 1000  # a mask that stayed in the sum would be far beyond


def test_a_hospital_that_lies_about_its_shares_changes_nothing(approved: Containers) -> None:
    found = said(approved, "flu-liar", "--liar", "rural")
    assert found["rounds"] == [sorted(HOSPITALS)] * 3
    assert found["scored"] == sorted(HOSPITALS)
    check_nothing_is_read_alone(found)
    assert found["refused"] == dict.fromkeys(HOSPITALS, STEPS)


def test_a_round_goes_on_without_a_hospital_that_is_killed(approved: Containers) -> None:
    network, left = approved, [hospital for hospital in sorted(HOSPITALS) if hospital != "general"]
    network.compose("kill", "general")
    try:
        found = said(network, "flu-killed")
    finally:
        network.up("general", quiet=True)
    assert found["rounds"] == [left] * 3
    assert found["scored"] == left
    check_nothing_is_read_alone(found)
    for hospital in HOSPITALS:
        network.owner(hospital, "ledger", "--verify")
