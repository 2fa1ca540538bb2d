"""The network trains and scores in sums alone, while a party lies about its shares, another is killed, the relay lies.

What is drawn from secure aggregation's own attacks is in tests/policies and tests/attacks; here are real hospitals.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections import Counter
from typing import Any

import pytest

from compose.containers import Containers
from tests.containers.conftest import HOSPITALS
from tests.containers.engine import container, docker, entries, healthy, spent_by, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

STEPS = ["keys", "shares", "boxes", "survivors", "reveal"]
ROUNDS = 3
GO_ON = "/home/researcher/go-on"
HELD = f"until [ -e {GO_ON}.held ]; do sleep 0.1; done"


def in_sums(*words: str) -> tuple[str, ...]:
    """The command of the researcher's half."""
    return ("python3", "-m", "compose.in_sums", *words, "--directory", "/home/researcher/sums")


def submitted(network: Containers, name: str) -> None:
    """Submit a study, and have the owners approve it."""
    network.run("researcher", *in_sums("submit", name))
    for hospital in HOSPITALS:
        assert network.approve_all(hospital) == 2  # training and evaluation


def nothing_but_noise(came: dict[str, Any]) -> None:
    """What each hospital sent is evenly spread over all words: it says nothing by itself; the mean does."""
    assert came["kinds"] == ["uint32"]
    assert abs(came["mean_word"] - 0.5) < 5 / math.sqrt(12 * came["words"])
    assert came["finite"]
    assert came["largest_weight"] < 50


@pytest.fixture
def paid(published: Containers) -> dict[str, set[str]]:
    """The runs that each hospital had charged before."""
    return {hospital: set(charged(published, hospital)) for hospital in HOSPITALS}


def charged(network: Containers, hospital: str) -> Counter[str]:
    """How often each run is charged in a hospital's ledger, which verifies."""
    network.owner(hospital, "ledger", "--verify")
    return Counter(each["run"] for each in entries(network, hospital) if each["kind"] in ("settle", "fail"))


def charged_once(network: Containers, hospital: str, before: set[str]) -> int:
    """How many runs were charged since: none of them twice, and none was released twice."""
    found = charged(network, hospital)
    assert max(found.values()) == 1
    released = Counter((each["request"], each["round"]) for each in network.ask(hospital, "releases"))
    assert max(released.values()) == 1
    return len(set(found) - before)


def test_the_mean_opens_though_a_hospital_lies_and_the_relay_is_refused(
    published: Containers, paid: dict[str, set[str]]
) -> None:
    network = published
    submitted(network, "one-lies")
    came = json.loads(network.run("researcher", *in_sums("run", "one-lies", "--liar", "rural")).stdout)
    assert came["rounds"] == [sorted(HOSPITALS)] * ROUNDS
    assert came["scored"] == sorted(HOSPITALS)
    assert came["certificates"] == len(HOSPITALS) * (ROUNDS + 1)
    assert came["refused"] == dict.fromkeys(HOSPITALS, STEPS)
    nothing_but_noise(came)
    assert [charged_once(network, hospital, paid[hospital]) for hospital in HOSPITALS] == [ROUNDS + 1] * 3


def test_rounds_close_without_a_hospital_that_is_killed(published: Containers, paid: dict[str, set[str]]) -> None:
    """It is killed within the second round, when it has sent its release and nobody has revealed anything."""
    network = published
    submitted(network, "one-is-killed")
    with network.begin(
        "researcher", *in_sums("run", "one-is-killed", "--hold", GO_ON), output=subprocess.PIPE
    ) as running:
        try:
            network.run("researcher", "timeout", "300", "sh", "-c", HELD)
            docker("kill", container(network, "general"))
            network.run("researcher", "touch", GO_ON)
            said, _ = running.communicate(timeout=300)
        finally:
            running.kill()
            docker("start", container(network, "general"))
    assert running.returncode == 0, said
    came = json.loads(said.splitlines()[-1])
    others = ["paediatric", "rural"]
    assert came["rounds"][0] == sorted(HOSPITALS)
    assert set(others) <= set(came["rounds"][1])
    assert came["rounds"][2] == others
    assert came["scored"] == others
    assert {hospital: came["refused"][hospital] for hospital in others} == dict.fromkeys(others, STEPS)
    nothing_but_noise(came)
    wait_until(lambda: healthy(network, "general"), "the killed hospital again")
    assert [charged_once(network, hospital, paid[hospital]) for hospital in others] == [ROUNDS + 1] * 2
    assert charged_once(network, "general", paid["general"]) == 2  # the rounds that it was asked for

    # The same again costs nothing: closed sums stay as they are, with the hospital back that was not in them.
    balances = [spent_by(network, hospital) for hospital in HOSPITALS]
    again = json.loads(network.run("researcher", *in_sums("run", "one-is-killed")).stdout)
    assert again["rounds"] == came["rounds"]
    assert again["largest_weight"] == came["largest_weight"]
    assert [spent_by(network, hospital) for hospital in HOSPITALS] == balances
