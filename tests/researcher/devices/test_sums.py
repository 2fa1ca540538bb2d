"""Circles of devices under masks: sums are exact, too few are refused, and a relay that lies reads nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.errors import InvalidRequest, Unavailable
from policies.privacy import device_reports
from researcher.devices.device import Device
from researcher.devices.report import Answering
from tests.researcher.devices.teams import COLUMN, Relay, accept, answering, device, report, team

RATES = [60.0, 70.0, 80.0, 90.0, 100.0]  # of five, of whom three are the threshold and make the whole noise
THREE = 0.6


@pytest.fixture
def devices() -> dict[str, Device]:
    """Five, who accepted to be one circle."""
    made = team(RATES)
    accept(report(shared_noise=True, threshold=THREE), made)
    return made


def without(*names: str, at: str) -> Any:
    """These do not answer a step."""
    return lambda name, text: None if name in names and text.get("step") == at else text


def test_a_sum_is_exact(devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_reports, "laplace_part", lambda halvings, parties, source: 0)
    result = report(shared_noise=True, threshold=THREE).run(answering(devices))
    assert result[COLUMN].mean == pytest.approx(80, abs=0.03)
    assert result[COLUMN].devices == 5
    assert result.circles == 1


@pytest.mark.parametrize("at", ["keys", "shares", "boxes", "numbers"])
def test_exactly_the_threshold_is_enough(devices: dict[str, Device], monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    monkeypatch.setattr(device_reports, "laplace_part", lambda halvings, parties, source: 0)
    result = report(shared_noise=True, threshold=THREE).run(Relay(devices, there=without("d00000", "d00001", at=at)))
    assert result[COLUMN].mean == pytest.approx(90, abs=0.03)  # of the other three, and of no other
    assert result.devices == ("d00002", "d00003", "d00004")
    assert set(result.missing) == {"d00000", "d00001"}
    assert result.shares == 1.0  # one whole noise, neither more nor less


@pytest.mark.parametrize("at", ["keys", "shares", "boxes", "numbers", "survivors", "reveal"])
def test_one_too_few_is_refused_and_says_so(devices: dict[str, Device], at: str) -> None:
    with pytest.raises(Unavailable, match=f"2 of 5 devices answered the step '{at}', and threshold=3 have to"):
        report(shared_noise=True, threshold=THREE).run(
            Relay(devices, there=without("d00000", "d00001", "d00002", at=at))
        )
    paid = sum(one.remaining() < 2 for one in devices.values())
    assert paid == {"numbers": 2, "survivors": 5, "reveal": 5}.get(at, 0)  # who sent nothing pays nothing


def test_no_device_signs_or_opens_a_sum_of_fewer_than_the_threshold(devices: dict[str, Device]) -> None:
    """A relay that goes on where this researcher would not."""

    def few(name: str, text: dict[str, Any]) -> dict[str, Any]:
        return text | {"message": {"survivors": [1, 2]}} if text.get("step") == "survivors" else text

    with pytest.raises(Unavailable, match="threshold=3 is the fewest"):
        report(shared_noise=True, threshold=THREE).run(Relay(devices, there=few))


def test_devices_in_a_sum_pay_once_whoever_is_killed_later(devices: dict[str, Device]) -> None:
    report(shared_noise=True, threshold=THREE).run(Relay(devices, there=without("d00004", at="reveal")))
    assert {one.remaining() for one in devices.values()} == {1.0}


def test_masked_numbers_say_nothing_and_leave_once(devices: dict[str, Device]) -> None:
    seen: dict[str, list[list[int]]] = {}

    def watching(name: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        if text.get("step") == "numbers":
            again = json.loads(devices[name].answer(json.dumps(text)))
            seen.setdefault(name, []).extend([told["numbers"], again["numbers"]])
        return told

    report(shared_noise=True, threshold=THREE).run(Relay(devices, back=watching))
    assert all(first == second for first, second in seen.values())
    largest = report().question.largest
    words = [word for first, _ in seen.values() for word in first]
    assert sum(word < largest or word > 2**32 - largest for word in words) <= 2  # all of them would, without masks
    assert {one.remaining() for one in devices.values()} == {1.0}


def test_numbers_do_not_leave_before_shares_are_held_nor_after_survivors_are_named(devices: dict[str, Device]) -> None:
    sent: list[dict[str, Any]] = []

    def keep(name: str, text: dict[str, Any]) -> dict[str, Any]:
        sent.append(text)
        return text

    with pytest.raises(Unavailable):
        report(shared_noise=True, threshold=THREE).run(
            Relay(devices, there=lambda n, t: None if t.get("step") == "boxes" else keep(n, t))
        )
    early = sent[-1] | {"step": "numbers", "message": {}}
    assert "after the step 'boxes'" in devices["d00000"].answer(json.dumps(early))
    assert devices["d00000"].remaining() == 2.0


def test_a_device_that_is_named_alive_to_some_and_dead_to_others_is_not_read(devices: dict[str, Device]) -> None:
    """The attack on Flower's SecAgg+: a relay that asks for both secrets of one device."""
    revealed: list[dict[str, Any]] = []

    def splitting(name: str, text: dict[str, Any]) -> dict[str, Any]:
        if text.get("step") == "survivors" and name in ("d00001", "d00002"):
            return text | {"message": {"survivors": [2, 3, 4, 5]}}  # without the first
        return text

    def watching(name: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        if text.get("step") == "reveal" and "seeds" in told:
            revealed.append(told)
        return told

    result = report(shared_noise=True, threshold=THREE).run(Relay(devices, there=splitting, back=watching))
    assert len(result.devices) == 5
    seeds, keys = (sum("1" in told[what] for told in revealed) for what in ("seeds", "keys"))
    assert (seeds, keys) == (3, 0)


def test_another_key_than_the_rosters_signs_nothing(devices: dict[str, Device]) -> None:
    stranger = device()

    def swapped(name: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        return json.loads(stranger.answer(json.dumps(text))) if name == "d00000" and "step" in text else told

    result = report(shared_noise=True, threshold=THREE).run(Relay(devices, back=swapped))
    assert "d00000" in result.missing
    assert len(result.devices) == 4


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("keys", {}), ("keys", {"party": 1, "mask_key": "zz"}), ("shares", {}), ("shares", {"boxes": {}}),
        ("shares", {"boxes": {"2": "00"}}), ("shares", {"boxes": {"9": "00"}}), ("boxes", None), ("numbers", {}),
        ("numbers", {"numbers": [-1, 0]}), ("numbers", {"numbers": [2**32, 0]}), ("numbers", {"numbers": [1]}),
        ("survivors", {}), ("survivors", {"signature": "00"}), ("survivors", {"signature": "00" * 64}),
        ("reveal", {}), ("reveal", {"seeds": {"1": "zz"}, "keys": {}}), ("reveal", {"seeds": 7, "keys": 7}),
    ],
)  # fmt: skip
def test_a_device_that_answers_nonsense_drops_out_and_the_others_go_on(
    devices: dict[str, Device], step: str, answer: dict[str, Any] | None
) -> None:
    def nonsense(name: str, text: dict[str, Any], told: dict[str, Any]) -> dict[str, Any] | None:
        return answer if name == "d00000" and text.get("step") == step else told

    result = report(shared_noise=True, threshold=THREE).run(Relay(devices, back=nonsense))
    in_the_sum = step in ("survivors", "reveal")  # its numbers are there already
    assert ("d00000" in result.missing) is not in_the_sum
    assert len(result.devices) == 4 + in_the_sum


def test_a_device_without_a_key_is_in_no_circle(devices: dict[str, Device]) -> None:
    bad = {"key": "g" * 64}
    relay = Relay(devices, back=lambda name, text, told: bad if name == "d00000" and "what" in text else told)
    listed = report(shared_noise=True, threshold=THREE).circles(relay)
    assert [sorted(members.values()) for _, members in listed] == [["d00001", "d00002", "d00003", "d00004"]]


def test_a_team_is_cut_into_circles_of_nearly_one_size() -> None:
    for count, circle in ((2, 2), (3, 2), (5, 2), (7, 3), (100, 100), (101, 100), (250, 100)):
        asked = report(shared_noise=True, circle=circle)
        listed = asked.circles(Answering(answering(team([70.0] * count))))
        sizes = [len(members) for _, members in listed]
        assert sum(sizes) == count
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(circle, 3)
        assert all(question.shared and question.shared.threshold > len(members) / 2 for question, members in listed)


def test_sums_of_circles_add_up_and_a_circle_that_fails_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_reports, "laplace_part", lambda halvings, parties, source: 0)
    asked, devices = (
        report(shared_noise=True, circle=3),
        team([60.0, 60.0, 60.0, 90.0, 90.0, 90.0, 150.0, 150.0, 150.0]),
    )
    accept(asked, devices)
    result = asked.run(Relay(devices, there=without("d00006", "d00007", at="shares")))
    assert result[COLUMN].mean == pytest.approx(75, abs=0.03)
    assert result.circles == 2
    assert set(result.missing) == {"d00006", "d00007", "d00008"}
    assert result.shares == pytest.approx(2 * 3 / 2)


def test_a_threshold_that_was_asked_for_is_in_every_roster() -> None:
    asked = report(shared_noise=True, threshold=0.8)
    ((question, _),) = asked.circles(Answering(answering(team([70.0] * 10))))
    assert question.shared is not None
    assert question.shared.threshold == 8
    assert asked.check(10).colluding == 5
    assert question.parts == 3


def test_two_names_for_one_device_are_refused_and_one_device_is_no_circle() -> None:
    one = device()
    with pytest.raises(InvalidRequest, match="one key"):
        report(shared_noise=True).run({"a": one.answer, "b": one.answer})
    with pytest.raises(Unavailable, match="2 or more"):
        report(shared_noise=True).run({"a": one.answer})
