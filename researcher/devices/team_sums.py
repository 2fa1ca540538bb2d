"""One sum over a team of thousands of devices: ask its committee, then everybody, then the committee, and open the sum.

This side only relays (`policies.secure_sums.committee` says what each device checks). A device that falls silent before
it sends its numbers is not in the sum, and is not missed afterwards. Of the committee 15 % may fall silent at any time.
What is lost with more is said, and that is final: a device's numbers leave once for each question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from policies.canonical import canonical
from policies.errors import CertificateRefused, DatasiteError, InvalidRequest, Unavailable
from policies.privacy.device_reports import NUMBERS as NUMBERS_EACH
from policies.privacy.device_reports import DeviceQuestion
from policies.privacy.team_sums import TeamSum
from policies.secure_sums.committee import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Work,
    committee_places,
    join_text,
    numbers_text,
    shares_in,
)
from policies.secure_sums.merkle import proof_of
from policies.secure_sums.messages import hex_of
from policies.secure_sums.polynomials import opened
from researcher.devices.device import JOIN, NUMBERS, SUM, context_of
from researcher.devices.sums import Answers, Devices, asked

AT_ONCE = 16  # members that are sent what all devices signed, some megabytes for each


def team_sum(
    devices: Devices,
    question: DeviceQuestion,
    members: Mapping[int, str],
    keys: Sequence[str],
    *,
    work: Work | None = None,
) -> Answers:
    """The sum of a team's numbers.

    Args:
      members: names of devices, by their numbers in the team from 1.
      keys: of all of them, in that order.

    Raises:
      Unavailable: too few of the committee or of the team went on; says how many, and whether anybody has paid.
      CertificateRefused: what the committee gave comes to no sum.
    """
    assert question.team is not None
    relay = _Relay(devices, question, question.team, {place - 1: name for place, name in members.items()}, list(keys))
    relay.work = work or relay.work
    return relay.opened()


@dataclass
class _Relay:
    devices: Devices
    question: DeviceQuestion
    team: TeamSum
    names: dict[int, str]
    keys: list[str]
    missing: dict[str, str] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    def opened(self) -> Answers:
        """All three steps."""
        drawn = committee_places(self.team, context_of(self.question))
        joined = self._told(self._asking(JOIN, {}, drawn), self._join)
        self._enough(len(joined), self.team.committee.needed, "of the committee joined", "Nobody has paid.")
        rows = [[place, self.keys[place], *row] for place, row in sorted(joined.items())]
        proof = proof_of([bytes.fromhex(key) for key in self.keys], joined)
        numbers = self._told(
            self._asking(NUMBERS, {"members": rows, "proof": proof}, self.names),
            lambda p, t: self._numbers(p, t, joined),
        )
        paid = "Who answered has paid."
        self._enough(len(numbers), self.team.threshold, "of the team answered", paid)
        sums = self._sums(drawn, joined, numbers)
        self._enough(len(sums), self.team.committee.needed, "of the committee gave their sums", paid)
        total = [
            opened({place: one[turn] for place, one in sums.items()}, needed=self.team.committee.needed)
            for turn in range(self._count)
        ]
        if any(abs(number) > len(numbers) * self.question.largest for number in total):
            raise CertificateRefused(
                f"The sum of {len(numbers)} devices is beyond what honest ones can come to: one or more sent what is no"
                f" answer. {paid} Ask again under another name, and of other devices."
            )
        names = [self.names[place] for place in sorted(numbers)]
        missing = {name: why for name, why in self.missing.items() if name not in set(names)}
        return Answers(total, names, missing, len(names) / self.question.parts)

    @property
    def _count(self) -> int:
        return NUMBERS_EACH * len(self.question.columns)

    def _asking(self, step: str, message: Mapping[str, Any], places: Any) -> dict[str, str]:
        """One text for all that are asked."""
        text = self._text(step, message)
        return {self.names[place]: text for place in places}

    def _text(self, step: str, message: Mapping[str, Any]) -> str:
        return canonical({"question": self.question.as_dict(), "step": step, "message": message}).decode()

    def _told(self, texts: Mapping[str, str], read: Callable[[int, dict[str, Any]], Any]) -> dict[int, Any]:
        """What those who are asked answered, read, by their places."""
        places = {name: place for place, name in self.names.items() if name in texts}
        told, missing = asked(self.devices, texts)
        answers = {}
        for name, answer in told.items():
            try:
                answers[places[name]] = read(places[name], answer)
            except DatasiteError as error:
                missing[name] = str(error)
        self.missing |= missing
        return answers

    def _enough(self, count: int, needed: int, did: str, paid: str) -> None:
        if count < needed:
            reasons = " ".join(sorted(set(self.missing.values()))[:3])
            raise Unavailable(
                f"{count:,} {did}, and {needed:,} have to: no sum was opened. {paid} {reasons} Ask again under another"
                " name when more can take part."
            )

    def _join(self, place: int, told: Mapping[str, Any]) -> list[str]:
        key, signature = _signed_key(told)
        if not self.work.is_signed(self.keys[place], join_text(context_of(self.question), key), signature):
            raise InvalidRequest("its signature is not of the key that it gave first.")
        return [key, signature]

    def _numbers(
        self, place: int, told: Mapping[str, Any], joined: Mapping[int, Any]
    ) -> tuple[str, str, dict[int, Any]]:
        key, signature = _signed_key(told)
        shares = told.get("shares")
        if not isinstance(shares, dict) or set(shares) != {str(member) for member in joined}:
            raise InvalidRequest("its shares are for others than the committee.")
        if not self.work.is_signed(self.keys[place], numbers_text(context_of(self.question), key), signature):
            raise InvalidRequest("its signature is not of the key that it gave first.")
        return key, signature, {member: shares_in(shares[str(member)], self._count) for member in joined}

    def _sums(
        self, drawn: Sequence[int], joined: Mapping[int, Any], numbers: Mapping[int, Any]
    ) -> dict[int, list[int]]:
        """The sums of the committee's members, by the number of their shares."""
        order = {place: number for number, place in enumerate(drawn, 1)}
        left = iter(joined)
        sums: dict[int, list[int]] = {}
        while some := list(islice(left, AT_ONCE)):
            texts = {}
            for member in some:
                rows = [
                    [place, key, signature, shares[member]]
                    for place, (key, signature, shares) in sorted(numbers.items())
                ]
                texts[self.names[member]] = self._text(SUM, {"keys": self.keys, "answers": rows})
            told = self._told(texts, lambda _, answer: shares_in(answer.get("sums"), self._count))
            sums |= {order[place]: shares for place, shares in told.items()}
        return sums


def _signed_key(told: Mapping[str, Any]) -> tuple[str, str]:
    return hex_of(told.get("key"), "a key", KEY_BYTES), hex_of(told.get("signature"), "a signature", SIGNATURE_BYTES)
