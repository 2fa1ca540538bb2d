"""A coordinator that lies, reorders, drops, replays, splits the roster and names the living dead reads nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policies.errors import CertificateRefused, InvalidRequest, WrongStatus
from policies.secure_sums import masks
from policies.secure_sums import party as steps
from policies.secure_sums.encoding import Words
from tests.attacks.secure_relay import NUMBERS, WEIGHTS, Hospital, Relay, network, read_one


def until_released(count: int = 3, threshold: int = 2) -> tuple[Relay, dict[int, Words]]:
    """A round in which everybody has released."""
    relay = network(count, threshold)
    relay.keys()
    relay.shares()
    relay.boxes_out()
    return relay, relay.released(relay.hospitals)


def by(number: int, told: dict[str, Any]) -> dict[str, Any]:
    return {**told, "by": number}


def reveal_as(relay: Relay, number: int, survivors: list[int], signatures: dict[int, str]) -> dict[str, Any]:
    """Let one hospital reveal for a set of survivors. Raises where it does not."""
    hospital = relay.hospitals[number]
    hospital.answer("survivors", {"survivors": survivors})
    message = {"signatures": {str(signer): signature for signer, signature in signatures.items()}}
    return by(number, hospital.answer("reveal", message))


def test_naming_the_living_dead_reads_nothing() -> None:
    """One set of survivors with the victim in it and one without would open both of its secrets."""
    relay, masked = until_released()
    answers: list[dict[str, Any]] = []
    for survivors in ([1, 2, 3], [2, 3]):
        signatures: dict[int, str] = {}
        for number in survivors:
            try:
                told = relay.hospitals[number].answer("survivors", {"survivors": survivors})
                signatures[number] = told["signature"]
            except WrongStatus:
                continue
        message = {"signatures": {str(number): signature for number, signature in signatures.items()}}
        for number in survivors:
            try:
                answers.append(by(number, relay.hospitals[number].answer("reveal", message)))
            except WrongStatus:
                continue
    assert len(answers) == 3  # each answered once, to the first
    assert read_one(relay, 1, masked, answers) is None


def test_hospitals_that_forgot_their_answers_would_be_read() -> None:
    """As one put back from a copy would be: the reading is real, and why round secrets are in no backup."""
    relay, masked = until_released()
    answers = []
    for survivors in ([1, 2, 3], [2, 3]):
        signatures = {number: _signature(relay, number, survivors) for number in survivors}
        for number in survivors[-2:]:
            kept = dict(relay.hospitals[number].state)
            answers.append(reveal_as(relay, number, survivors, signatures))
            relay.hospitals[number].state = kept
    read = read_one(relay, 1, masked, _merged(answers))
    assert read is not None
    np.testing.assert_array_equal(read, relay.hospitals[1].words)


def _signature(relay: Relay, number: int, survivors: list[int]) -> str:
    from policies.secure_sums.messages import signed, survivors_text

    return signed(relay.hospitals[number].key, survivors_text(relay.context, survivors))


def _merged(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged: dict[int, dict[str, Any]] = {}
    for told in answers:
        one = merged.setdefault(told["by"], {"by": told["by"], "seeds": {}, "keys": {}})
        one["seeds"] |= told["seeds"]
        one["keys"] |= told["keys"]
    return list(merged.values())


@pytest.mark.parametrize("step", ["keys", "shares", "boxes", "survivors", "reveal"])
def test_every_step_is_answered_to_one_message_alone(step: str) -> None:
    relay, _ = until_released(4, 3)
    signatures = relay.signatures([1, 2, 3, 4])
    relay.revealed(signatures, [1])
    other: dict[str, Any] = {
        "keys": {"weights_digest": "11" * 32},
        "shares": {"book": {str(number): relay.book[number] for number in (1, 2, 3)}},
        "boxes": relay.for_(1, [2, 3]),
        "survivors": {"survivors": [1, 2, 3]},
        "reveal": {"signatures": {str(number): signatures[number] for number in (1, 2, 3)}},
    }[step]
    with pytest.raises(WrongStatus, match="answered once"):
        relay.hospitals[1].answer(step, other)


def test_the_same_message_gets_the_same_answer() -> None:
    """Also after a restart, since a state travels through what is stored of it."""
    relay = network(3, 2)
    relay.keys()
    relay.shares()
    before = dict(relay.boxes[1])
    relay.shares([1])
    assert relay.boxes[1] == before


def test_keys_that_no_hospital_signed_are_refused() -> None:
    """The relay's own keys in place of a hospital's: it would hold that hospital's masks."""
    relay = network(3, 2)
    relay.keys()
    stranger = Hospital(relay.declared, 2, network(2, 2).hospitals[1].key, relay.hospitals[2].words, relay.context)
    told = stranger.answer("keys", {"weights_digest": WEIGHTS})
    told.pop("party")
    relay.book[2] = told
    with pytest.raises(WrongStatus, match="hospital 2 are not signed"):
        relay.shares([1])


def test_keys_of_another_round_are_refused() -> None:
    relay = network(3, 2)
    relay.keys()
    later = Hospital(relay.declared, 2, relay.hospitals[2].key, relay.hospitals[2].words, "ee" * 32)
    told = later.answer("keys", {"weights_digest": WEIGHTS})
    told.pop("party")
    relay.book[2] = told
    with pytest.raises(WrongStatus, match="not signed by its certificate key for this request, round"):
        relay.shares([1])


def test_keys_of_one_hospital_under_anothers_name_are_refused() -> None:
    relay = network(3, 2)
    relay.keys()
    relay.book[2] = relay.book[3]
    with pytest.raises(WrongStatus, match="not signed"):
        relay.shares([1])


def test_a_roster_split_below_the_threshold_is_refused() -> None:
    relay = network(4, 3)
    relay.keys()
    book = {str(number): relay.book[number] for number in (1, 2)}
    with pytest.raises(WrongStatus, match="2 hospitals gave keys, and threshold=3"):
        relay.hospitals[1].answer("shares", {"book": book})


def test_a_book_without_ones_own_keys_is_refused() -> None:
    relay = network(3, 2)
    relay.keys()
    with pytest.raises(WrongStatus, match="not among those"):
        relay.hospitals[1].answer("shares", {"book": {str(number): relay.book[number] for number in (2, 3)}})


@pytest.mark.parametrize("kind", ["swapped", "replayed to another", "changed", "own"])
def test_boxes_that_were_not_sealed_for_one_are_refused(kind: str) -> None:
    relay = network(3, 2)
    relay.keys()
    relay.shares()
    right = relay.for_(1)["boxes"]
    wrong = {
        "swapped": {"2": right["3"], "3": right["2"]},
        "replayed to another": {"2": relay.boxes[2][3], "3": relay.boxes[3][2]},
        "changed": {"2": right["2"][:-2] + ("00" if right["2"][-2:] != "00" else "01"), "3": right["3"]},
        "own": {"2": relay.boxes[1][2], "3": right["3"]},
    }[kind]
    with pytest.raises(WrongStatus, match="not one that it sealed"):
        relay.hospitals[1].answer("boxes", {"boxes": wrong})


def test_too_few_boxes_are_refused() -> None:
    relay = network(4, 3)
    relay.keys()
    relay.shares()
    with pytest.raises(WrongStatus, match="2 hospitals shared their secrets, and threshold=3"):
        relay.hospitals[1].answer("boxes", relay.for_(1, [2]))


def test_a_sum_of_fewer_than_the_threshold_is_refused() -> None:
    relay, _ = until_released(4, 3)
    with pytest.raises(WrongStatus, match="over 2 hospitals, and threshold=3"):
        relay.signatures([1, 2], [1])


def test_nothing_is_revealed_without_the_signatures_of_enough() -> None:
    relay, _ = until_released(4, 3)
    signatures = relay.signatures([1, 2, 3, 4])
    with pytest.raises(WrongStatus, match="2 hospitals signed"):
        relay.revealed({1: signatures[1], 2: signatures[2]}, [1])


def test_signatures_of_another_set_of_survivors_do_not_count() -> None:
    relay, _ = until_released(4, 3)
    others = {number: _signature(relay, number, [2, 3, 4]) for number in (2, 3, 4)}
    relay.signatures([1, 2, 3, 4], [1])
    with pytest.raises(WrongStatus, match="0 hospitals signed"):
        relay.revealed(others, [1])


def test_one_signature_does_not_count_for_several() -> None:
    relay, _ = until_released(4, 3)
    signatures = relay.signatures([1, 2, 3, 4], [1])
    with pytest.raises(WrongStatus, match="1 hospitals signed"):
        relay.revealed(dict.fromkeys((1, 2, 3), signatures[1]), [1])


def test_who_has_released_nothing_signs_and_reveals_nothing() -> None:
    relay = network(3, 2)
    relay.keys()
    relay.shares()
    relay.boxes_out()
    relay.released([1, 2])
    with pytest.raises(WrongStatus, match="released nothing"):
        relay.signatures([1, 2, 3], [3])


def test_who_is_named_dead_does_not_help() -> None:
    relay, _ = until_released()
    with pytest.raises(WrongStatus, match="not named as one that did"):
        relay.signatures([2, 3], [1])


@pytest.mark.parametrize("step", ["shares", "boxes", "survivors", "reveal"])
def test_steps_out_of_order_are_refused(step: str) -> None:
    relay = network(3, 2)
    relay.hospitals[1].sent = np.zeros(NUMBERS, np.uint32)
    if step != "shares":
        relay.keys()
    message = {"shares": {"book": {}}, "boxes": {"boxes": {}}, "survivors": {"survivors": [1, 2]}, "reveal": {}}[step]
    with pytest.raises(WrongStatus, match="comes after"):
        relay.hospitals[1].answer(step, message)


def test_what_leaves_is_uniform_whatever_the_numbers_are() -> None:
    """A hospital of zeros and one of ones look alike without the others' shares: 8,000 words, mean within 5 σ."""
    for value in (0, 1):
        relay = network(3, 2, numbers=8000)
        relay.hospitals[1].words = np.full(8000, value, np.uint32)
        relay.keys()
        relay.shares()
        relay.boxes_out()
        sent = relay.released([1])[1].astype(np.float64) / 2**32
        assert abs(sent.mean() - 0.5) < 5 / np.sqrt(12 * 8000)
        assert abs((sent**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / 8000)


def test_no_mask_is_used_for_two_rounds() -> None:
    first, second = network(3, 2), network(3, 2, round_number=2)
    for relay in (first, second):
        relay.keys()
        relay.shares()
        relay.boxes_out()
        relay.hospitals[1].words = np.zeros(NUMBERS, np.uint32)
    assert not (first.released([1])[1] == second.released([1])[1]).any()


def test_too_few_shares_open_nothing() -> None:
    relay, masked = until_released(4, 3)
    answers = relay.revealed(relay.signatures([1, 2, 3, 4]), [1, 2])
    with pytest.raises(InvalidRequest, match="2 hospitals gave a share for hospital 1, and threshold=3"):
        relay.opened(masked, answers)


def test_a_hospital_that_lies_about_its_shares_is_left_out() -> None:
    relay, masked = until_released(4, 3)
    answers = relay.revealed(relay.signatures([1, 2, 3, 4]), [1, 2, 3, 4])
    answers[1]["seeds"] = dict.fromkeys(answers[1]["seeds"], f"{5:066x}")
    np.testing.assert_array_equal(relay.opened(masked, answers), relay.truth([1, 2, 3, 4]))


def test_lies_that_cannot_be_left_out_are_told_instead_of_a_wrong_sum() -> None:
    relay, masked = until_released(4, 3)
    answers = relay.revealed(relay.signatures([1, 2, 3, 4]), [1, 2, 3])
    answers[1]["seeds"] = dict.fromkeys(answers[1]["seeds"], f"{5:066x}")
    with pytest.raises(CertificateRefused, match="do not come to what it signed"):
        relay.opened(masked, answers)


@pytest.mark.parametrize(
    "message",
    [{}, {"book": []}, {"book": {"9": {}}}, {"book": {"1": {"mask_key": 3}}}, {"book": {"1": None}}],
)
def test_messages_of_another_form_are_refused_in_fixed_words(message: dict[str, Any]) -> None:
    relay = network(3, 2)
    relay.keys()
    with pytest.raises(InvalidRequest, match="cannot be read"):
        relay.hospitals[1].answer("shares", message)


def test_what_a_relay_keeps_tells_no_secret_of_who_is_in_the_sum() -> None:
    """After the reveal a hospital holds none of its secrets, and nobody's shares."""
    relay, _ = until_released()
    relay.revealed(relay.signatures([1, 2, 3]), [1, 2, 3])
    for hospital in relay.hospitals.values():
        assert not hospital.state["mask_private"]
        assert not hospital.state["box_private"]
        assert not hospital.state["seed"]
        assert not hospital.state["held"]


def _after_masks(relay: Relay) -> Relay:
    relay.keys()
    relay.shares()
    relay.boxes_out()
    return relay


def _check_exact() -> None:
    relay, masked = until_released()
    answers = relay.revealed(relay.signatures([1, 2, 3]), [1, 2, 3])
    np.testing.assert_array_equal(relay.opened(masked, answers), relay.truth([1, 2, 3]))


def _check_fresh() -> None:
    sent = []
    for round_number in (1, 2):
        relay = network(3, 2, round_number=round_number)
        relay.hospitals[1].words = np.zeros(NUMBERS, np.uint32)
        sent.append(_after_masks(relay).released([1])[1])
    assert not (sent[0] == sent[1]).any()


def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of 16 bits: the other half of each word leaves as it is, and sums still come out right."""
    whole = masks.expanded
    monkeypatch.setattr(masks, "expanded", lambda key, count: whole(key, count) & np.uint32(0xFFFF))


def _another_modulus(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = steps.masked
    monkeypatch.setattr(steps, "masked", lambda *a, **o: masked(*a, **o) % np.uint32(2**31))


def _one_key_for_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[int, Any] = {}
    begun = steps.begun

    def again(context: str, number: int) -> Any:
        state = kept.setdefault(number, begun(context, number))
        return replace(state, context=context, asked={}, answers={}, book={}, held={})

    monkeypatch.setattr(steps, "begun", again)
    mask_seed = steps.mask_seed
    monkeypatch.setattr(steps, "mask_seed", lambda own, other, _, *pair: mask_seed(own, other, b"", *pair))


def _check_uniform() -> None:
    relay = network(3, 2, numbers=8000)
    relay.hospitals[1].words = np.zeros(8000, np.uint32)
    sent = _after_masks(relay).released([1])[1].astype(np.float64) / 2**32
    assert abs(sent.mean() - 0.5) < 5 / np.sqrt(12 * 8000)


@pytest.mark.parametrize(
    ("fault", "check"),
    [(_narrow, _check_uniform), (_another_modulus, _check_exact), (_one_key_for_all_rounds, _check_fresh)],
    ids=["masks of half a word", "another modulus", "a mask for two rounds"],
)
def test_planted_faults_are_found(monkeypatch: pytest.MonkeyPatch, fault: Any, check: Any) -> None:
    check()
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        check()
