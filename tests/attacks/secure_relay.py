"""Hospitals of a secure sum in this process, and a relay between them that may do as it likes.

Every message travels as JSON, and every state through its plain data as a datasite stores it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.secure_sums import party as steps
from policies.secure_sums.encoding import Words
from policies.secure_sums.masks import add_mask
from policies.secure_sums.messages import context_of
from policies.secure_sums.opening import open_sum, read_revealed
from policies.secure_sums.sharing import combine

NUMBERS = 40
SOURCE, WEIGHTS = "5a" * 32, "77" * 32


@dataclass
class Hospital:
    """One party, with the words that it would add."""

    declared: SecureAggregation
    number: int
    key: Ed25519PrivateKey
    words: Words
    context: str
    state: dict[str, Any] = field(default_factory=dict)
    sent: Words | None = None

    def __post_init__(self) -> None:
        self.state = self.state or steps.begun(self.context, self.number).as_dict()

    def answer(self, step: str, message: dict[str, Any]) -> dict[str, Any]:
        state = steps.PartyState.from_dict(json.loads(json.dumps(self.state)))
        told = steps.answer(
            state,
            step,
            json.loads(json.dumps(message)),
            declared=self.declared,
            signing_key=self.key,
            has_released=self.sent is not None,
        )
        self.state = json.loads(json.dumps(state.as_dict()))
        return json.loads(json.dumps(told))

    def release(self) -> Words:
        state = steps.PartyState.from_dict(self.state)
        if self.sent is None:
            self.sent = steps.masked(state, self.words, declared=self.declared)
        return self.sent


@dataclass
class Relay:
    """All hospitals of one round, and the honest way through it."""

    hospitals: dict[int, Hospital]
    declared: SecureAggregation
    context: str
    book: dict[int, dict[str, str]] = field(default_factory=dict)
    boxes: dict[int, dict[int, str]] = field(default_factory=dict)

    def keys(self, among: Iterable[int] | None = None) -> None:
        for number in among or self.hospitals:
            told = self.hospitals[number].answer("keys", {"weights_digest": WEIGHTS})
            assert told.pop("party") == number
            self.book[number] = told

    def shares(self, among: Iterable[int] | None = None) -> None:
        book = {str(number): keys for number, keys in self.book.items()}
        for number in among or list(self.book):
            told = self.hospitals[number].answer("shares", {"book": book})["boxes"]
            self.boxes[number] = {int(to): box for to, box in told.items()}

    def for_(self, number: int, among: Collection[int] | None = None) -> dict[str, Any]:
        """The message of boxes that others sealed for one hospital."""
        senders = [sender for sender in (self.boxes if among is None else among) if sender != number]
        return {"boxes": {str(sender): self.boxes[sender][number] for sender in senders}}

    def boxes_out(self, among: Iterable[int] | None = None) -> None:
        for number in among or list(self.boxes):
            self.hospitals[number].answer("boxes", self.for_(number))

    def released(self, among: Iterable[int]) -> dict[int, Words]:
        return {number: self.hospitals[number].release() for number in among}

    def signatures(self, survivors: Iterable[int], among: Iterable[int] | None = None) -> dict[int, str]:
        those = list(survivors)
        return {
            number: self.hospitals[number].answer("survivors", {"survivors": those})["signature"]
            for number in among or those
        }

    def revealed(self, signatures: dict[int, str], among: Iterable[int]) -> dict[int, dict[str, Any]]:
        message = {"signatures": {str(number): signature for number, signature in signatures.items()}}
        return {number: self.hospitals[number].answer("reveal", message) for number in among}

    def opened(self, masked: dict[int, Words], answers: dict[int, dict[str, Any]]) -> Words:
        revealed = {number: read_revealed(self.declared, told) for number, told in answers.items()}
        return open_sum(
            self.declared, self.context, book=self.book, sharing=self.boxes, masked=masked, revealed=revealed
        )

    def truth(self, among: Iterable[int]) -> Words:
        total = np.zeros(len(self.hospitals[1].words), np.uint32)
        for number in among:
            total += self.hospitals[number].words
        return total


def network(count: int, threshold: int, *, numbers: int = NUMBERS, round_number: int = 1) -> Relay:
    """A round of `count` hospitals with random words, about to begin."""
    keys = [Ed25519PrivateKey.generate() for _ in range(count)]
    parties = tuple(
        Party(f"hospital {number}", key.public_key().public_bytes_raw().hex(), 1000 * number)
        for number, key in enumerate(keys, start=1)
    )
    declared = SecureAggregation(threshold=threshold, hospitals=parties)
    context = context_of(declared, source_sha256=SOURCE, round_number=round_number, weights_digest=WEIGHTS)
    generator = np.random.default_rng(count)
    hospitals = {
        number: Hospital(
            declared, number, key, generator.integers(0, 2**32, numbers, dtype=np.uint64).astype(np.uint32), context
        )
        for number, key in enumerate(keys, start=1)
    }
    return Relay(hospitals, declared, context)


def read_one(relay: Relay, victim: int, masked: dict[int, Words], answers: Iterable[dict[str, Any]]) -> Words | None:
    """What a relay reads of one hospital from all that was revealed to it: its numbers, where it has both secrets."""
    given = [
        (number, told) for told in answers for number in [int(told["by"])] if told.get("seeds") or told.get("keys")
    ]
    found: dict[str, bytes | None] = {}
    for what in ("seeds", "keys"):
        shares = {number: int(told[what][str(victim)], 16) for number, told in given if str(victim) in told[what]}
        chosen = dict(list(shares.items())[: relay.declared.threshold])
        found[what] = combine(chosen) if len(chosen) == relay.declared.threshold else None
    if found["seeds"] is None or found["keys"] is None:
        return None
    words = masked[victim].copy()
    add_mask(words, found["seeds"], plus=False)
    for other in relay.boxes:
        if other != victim:
            public = bytes.fromhex(relay.book[other]["mask_key"])
            seed = steps.mask_seed(found["keys"], public, bytes.fromhex(relay.context), victim, other)
            add_mask(words, seed, plus=victim > other)
    return words
