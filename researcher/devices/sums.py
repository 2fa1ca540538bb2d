"""Sums of devices' numbers that nobody can open one by one: relay the steps of one circle, and open its sum.

This side only relays (`policies.secure_sums.party` says what each device checks). A device that drops out of a step is
missing from there on; the sum opens as long as `threshold` of the roster go on. What a circle came to is final: a
device's numbers leave once for each question, so a question whose sum failed is asked anew under another name, and
costs again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from policies.canonical import canonical
from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, Unavailable
from policies.privacy.device_reports import NUMBERS, DeviceQuestion
from policies.text import visible
from researcher.devices.device import NUMBERS as STEP
from researcher.devices.device import context_of

MOST_SHOWN = 300  # characters of a device's refusal
LONGEST_ANSWER = 1 << 20  # characters


class Devices(Protocol):
    """Where a team's devices are reached."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that can be asked."""

    def ask(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """What each device answers to its text; who does not answer is left out."""


@dataclass
class Answers:
    """What devices said: whole numbers that were summed, who is in them, and why others are not."""

    sums: list[int]
    devices: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    shares: float = 0.0  # whole noises in the sums


def asked(devices: Devices, texts: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What devices answered, read, and why others are missing."""
    told, missing = {}, {}
    answered = devices.ask(texts)
    for name in texts:
        try:
            told[name] = _read(answered.get(name))
        except DatasiteError as error:
            missing[name] = str(error)
    return told, missing


def own_noise(devices: Devices, question: DeviceQuestion) -> Answers:
    """Every device's numbers, each with all of its own noise, added up."""
    text = canonical({"question": question.as_dict()}).decode()
    told, missing = asked(devices, dict.fromkeys(devices.names, text))
    answers = Answers([0] * (NUMBERS * len(question.columns)), missing=missing)
    for name, answer in told.items():
        try:
            numbers = _numbers(answer, len(answers.sums), question.largest)
        except InvalidRequest as error:
            answers.missing[name] = str(error)
            continue
        answers.sums = [before + number for before, number in zip(answers.sums, numbers, strict=True)]
        answers.devices.append(name)
    answers.shares = len(answers.devices)
    return answers


def circle_sum(devices: Devices, question: DeviceQuestion, members: Mapping[int, str]) -> Answers:
    """The sum of one circle's numbers under masks.

    Args:
      members: names of devices, by their numbers in the question's roster.

    Raises:
      Unavailable: fewer than `threshold` went on; says how many, and why others did not.
      CertificateRefused: shares do not come to what devices signed.
    """
    from policies.secure_sums.opening import open_sum, read_revealed

    relay = _Relay(devices, question, dict(members))
    roster, context = relay.roster, context_of(question)
    keys = relay.step("keys", members, lambda _: {"weights_digest": ""}, _announced(roster, context))
    boxes = relay.step("shares", keys, lambda _: {"book": _named(keys)}, _sealed(roster, keys))
    received = relay.step("boxes", boxes, lambda party: {"boxes": _for(party, boxes)}, lambda _, told: told)
    count = NUMBERS * len(question.columns)
    masked = relay.step(STEP, received, lambda _: {}, lambda _, told: _words(told, count))
    survivors = sorted(masked)
    signatures = relay.step(
        "survivors", masked, lambda _: {"survivors": survivors}, _signature(roster, context, survivors)
    )
    revealed = relay.step(
        "reveal", signatures, lambda _: {"signatures": _named(signatures)}, lambda _, told: read_revealed(roster, told)
    )
    total = open_sum(roster, context, book=keys, sharing=boxes, masked=masked, revealed=revealed)
    sums = [number - 2**32 if number >= 2**31 else number for number in map(int, total)]
    names = [members[party] for party in survivors]
    missing = {name: why for name, why in relay.missing.items() if name not in names}  # who fell silent later is in it
    return Answers(sums, names, missing, len(names) / question.parts)


@dataclass
class _Relay:
    devices: Devices
    question: DeviceQuestion
    members: dict[int, str]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def roster(self) -> Any:
        """The question's."""
        assert self.question.shared is not None
        return self.question.shared

    def step(
        self,
        step: str,
        among: Iterable[int],
        message: Callable[[int], dict[str, Any]],
        read: Callable[[int, dict[str, Any]], Any],
    ) -> dict[int, Any]:
        """What those who are left answer to a step, by their numbers."""
        data = self.question.as_dict()
        texts = {
            self.members[party]: canonical({"question": data, "step": step, "message": message(party)}).decode()
            for party in sorted(among)
        }
        told, missing = asked(self.devices, texts)
        answers = {}
        for party, name in self.members.items():
            if name in told:
                try:
                    answers[party] = read(party, told[name])
                except (DatasiteError, KeyError, TypeError, ValueError) as error:
                    missing[name] = str(error) if isinstance(error, DatasiteError) else "its answer cannot be read."
        self.missing |= missing
        if len(answers) < self.roster.threshold:
            reasons = " ".join(sorted(set(self.missing.values()))[:3])
            raise Unavailable(
                f"{len(answers)} of {len(self.members)} devices answered the step {step!r}, and"
                f" threshold={self.roster.threshold} have to: no sum was opened. {reasons} Ask again under another name"
                " when more can take part."
            )
        return answers


def _announced(roster: Any, context: str) -> Callable[[int, dict[str, Any]], dict[str, str]]:
    from policies.secure_sums import messages

    def read(party: int, told: dict[str, Any]) -> dict[str, str]:
        announced = messages.announced_in({name: value for name, value in told.items() if name != "party"})
        messages.check_announced(roster, context, party, announced)
        return announced

    return read


def _sealed(roster: Any, book: Mapping[int, Any]) -> Callable[[int, dict[str, Any]], dict[str, str]]:
    from policies.secure_sums import messages
    from policies.secure_sums.party import BOX_BYTES

    def read(party: int, told: dict[str, Any]) -> dict[str, str]:
        boxes = messages.numbered(roster, told.get("boxes"), "boxes")
        if set(boxes) != set(book) - {party}:
            raise InvalidRequest("its shares are for other devices than those of the circle.")
        return {str(to): messages.hex_of(box, "a box", BOX_BYTES) for to, box in boxes.items()}

    return read


def _signature(roster: Any, context: str, survivors: list[int]) -> Callable[[int, dict[str, Any]], str]:
    from policies.secure_sums import messages

    def read(party: int, told: dict[str, Any]) -> str:
        signature = messages.hex_of(told.get("signature"), "a signature", 64)
        if not messages.is_signed(roster, party, messages.survivors_text(context, survivors), signature):
            raise InvalidRequest("its signature is not of the key that the roster names.")
        return signature

    return read


def _words(told: Mapping[str, Any], count: int) -> Any:
    import numpy as np

    return np.array(_numbers(told, count, 2**32 - 1, least=0), dtype=np.uint32)


def _numbers(told: Mapping[str, Any], count: int, largest: int, *, least: int | None = None) -> list[int]:
    numbers = told.get("numbers")
    low = -largest if least is None else least
    sound = isinstance(numbers, list) and all(type(number) is int and low <= number <= largest for number in numbers)
    if not sound or len(numbers) != count:  # type: ignore[arg-type]
        raise InvalidRequest("its answer is not of the question's numbers, and was left out.")
    return list(numbers)  # type: ignore[arg-type]


def _read(text: object) -> dict[str, Any]:
    if text is None:
        raise Unavailable("It did not answer.")
    try:
        data = json.loads(text) if isinstance(text, str) and len(text) <= LONGEST_ANSWER else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InvalidRequest("its answer cannot be read.")
    if "refused" in data:
        raise PermissionRefused(visible(str(data["refused"]))[:MOST_SHOWN])
    return data


def _named(by_party: Mapping[int, Any]) -> dict[str, Any]:
    return {str(party): value for party, value in by_party.items()}


def _for(party: int, boxes: Mapping[int, Mapping[str, str]]) -> dict[str, str]:
    return {str(sender): sealed[str(party)] for sender, sealed in boxes.items() if sender != party}
