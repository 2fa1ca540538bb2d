"""The calls of a round: weights with the first, their digest with the others, and what older datasites make of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from policies.errors import PermissionRefused
from policies.release.tensors import digest
from researcher.answers import Record
from researcher.client import Datasite, _Refused

CODE = ASSET = "0" * 32
WEIGHTS = {"bias": np.zeros(2, np.float32)}
RUNNING = {"status": "running", "round": 1, "release": None, "certificate": None, "shows_in": 0.2}
RELEASED = {"status": "released", "round": 1, "release": WEIGHTS, "certificate": "{}"}


class Answering(Datasite):
    """Answers calls from a list, and remembers what they carried."""

    def __init__(self, *answers: Any) -> None:
        super().__init__("http://127.0.0.1:1", "ada@university.example", "a password", name="general")
        self.answers, self.carried = list(answers), list[set[str]]()

    @contextlib.contextmanager
    def _calls(self) -> Iterator[Any]:
        yield None

    def _call(self, path: str, **arguments: Any) -> Any:
        assert path == "code.call"
        assert arguments["plain"] is True
        if "weights_digest" in arguments:
            assert arguments["weights_digest"] == digest(WEIGHTS)
        self.carried.append(set(arguments) & {"weights", "weights_digest"})
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def asked(self, times: int) -> list[str]:
        return [self.run(CODE, ASSET, WEIGHTS, 1)["status"] for _ in range(times)]


def test_weights_travel_once() -> None:
    hospital = Answering(RUNNING, RUNNING, RELEASED)
    assert hospital.asked(3) == ["running", "running", "released"]
    assert hospital.carried == [{"weights"}, {"weights_digest"}, {"weights_digest"}]


@pytest.mark.parametrize("end", ["void", "failed"])
def test_a_round_that_ended_is_asked_for_with_its_weights_again(end: str) -> None:
    hospital = Answering(RUNNING, {**RUNNING, "status": end}, RUNNING)
    assert hospital.asked(3) == ["running", end, "running"]
    assert hospital.carried == [{"weights"}, {"weights_digest"}, {"weights"}]


def test_a_look_that_is_refused_is_asked_anew_with_the_weights_and_an_ask_is_not() -> None:
    """As by a datasite of 0.1, which knows no looks."""
    hospital = Answering(RUNNING, _Refused("general: Weights are missing."), RELEASED)
    assert hospital.asked(2) == ["running", "released"]
    assert hospital.carried[1:] == [{"weights_digest"}, {"weights"}]
    with pytest.raises(PermissionRefused, match="not approved"):
        Answering(_Refused("general: not approved.")).asked(1)


def test_an_object_in_the_place_of_a_plain_answer_is_read_as_one() -> None:
    """As datasites of 0.1 answer."""
    kept = {"syft_action_data_cache": RELEASED, "syft_blob_storage_entry_id": None}
    assert Answering(Record("AnyActionObject", kept)).asked(1) == ["released"]


def test_statistics_are_asked_for_without_weights() -> None:
    hospital = Answering(RUNNING)
    hospital.run(CODE, ASSET, None, 1)
    assert hospital.carried == [set()]
