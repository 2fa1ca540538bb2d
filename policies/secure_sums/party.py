"""One hospital's part of a secure sum, step by step. The coordinator relays, and is not trusted with anything.

    keys        make round keys, and sign them for this request, round, roster and these weights
    shares      see everybody's signed keys; share one's own two secrets, each share sealed to who holds it
    boxes       open the shares that the others sent: with them one masks what one will add
    (masked)    the release itself leaves under a mask of one's own and one with each of them
    survivors   sign who is in the sum
    reveal      see that `threshold` of them signed the same; give a share of one secret of each: of its own mask for
                who is in the sum, of its key for who dropped out. Never both, and once

Every step is answered once in a round: its answer is kept, and given again to the same message alone. That is what
keeps a relay that names a hospital both alive and dead from reading it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from policies.errors import WrongStatus
from policies.privacy.secure_aggregation import WORD, SecureAggregation
from policies.secure_sums import messages
from policies.secure_sums.agreement import box_key, key_stream, mask_seed
from policies.secure_sums.sharing import SHARE_BYTES, split

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from policies.secure_sums.encoding import Words

BOX_BYTES = 2 * SHARE_BYTES + 16
SECRETS = ("mask_private", "box_private", "seed")
STEPS = ("keys", "shares", "boxes", "survivors", "reveal")


@dataclass
class PartyState:
    """What a party remembers of a round.

    Args:
      context: of the round, in hex.
      party: its own number.
      mask_private, box_private, seed: its secrets, in hex; "" once it has revealed.
      asked: digest of the message of each step that was answered; `answers` what it was answered with.
      book: everybody's round keys, by party.
      held: the two shares of each party's secrets that it holds: of the seed, and of the mask's key.
      survivors: those of whom it signed that they are in the sum.
    """

    context: str
    party: int
    mask_private: str = field(repr=False)
    box_private: str = field(repr=False)
    seed: str = field(repr=False)
    asked: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    book: dict[int, dict[str, str]] = field(default_factory=dict)
    held: dict[int, tuple[int, int]] = field(default_factory=dict, repr=False)
    survivors: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, secrets included."""
        held = {str(party): [f"{share:x}" for share in shares] for party, shares in self.held.items()}
        book = {str(party): announced for party, announced in self.book.items()}
        return {**dataclasses.asdict(self), "held": held, "book": book, "survivors": list(self.survivors)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PartyState:
        """The state that `as_dict` wrote."""
        held = {int(party): (int(seed, 16), int(key, 16)) for party, (seed, key) in data["held"].items()}
        book = {int(party): announced for party, announced in data["book"].items()}
        return cls(**{**data, "held": held, "book": book, "survivors": tuple(data["survivors"])})


def begun(context: str, party: int) -> PartyState:
    """A round that begins, with secrets of its own from the operating system."""
    mask_key, box_key = (X25519PrivateKey.generate().private_bytes_raw().hex() for _ in range(2))
    return PartyState(context, party, mask_key, box_key, secrets.token_bytes(32).hex())


def answer(
    state: PartyState,
    step: str,
    message: dict[str, Any],
    *,
    declared: SecureAggregation,
    signing_key: Ed25519PrivateKey,
    has_released: bool,
) -> dict[str, Any]:
    """What a party answers to a step's message; `state` has it then, and is to be stored before it is sent.

    Args:
      has_released: whether its masked release of this round is kept, ready to be sent.

    Raises:
      WrongStatus: the step was answered to another message, comes too early, or does not hold against a relay that
        lies; nothing was said, and `state` is as it was.
      InvalidRequest: the message is none.
    """
    if step not in STEPS:
        raise messages.unreadable(f"{step!r:.40} is none of {', '.join(STEPS)}")
    sent = messages.digest_of(message)
    if (told := answered_before(state, step, sent)) is not None:
        return told
    before = STEPS[: STEPS.index(step)]
    if missing := [earlier for earlier in before if earlier not in state.asked]:
        raise WrongStatus(f"The step {step!r} of this round comes after {missing[0]!r}. Ask for that first.")
    told = _STEPS[step](state, message, declared, signing_key, has_released)
    state.asked[step], state.answers[step] = sent, told
    return told


def answered_before(state: PartyState, step: str, sent: str) -> dict[str, Any] | None:
    """What a step was answered with; None where it was not asked yet.

    Raises `WrongStatus` where it was answered to another message: it is answered once in a round.
    """
    if step not in state.asked:
        return None
    if state.asked[step] != sent:
        raise WrongStatus(
            f"The step {step!r} of this round was answered to another message, and each is answered once. Send the same"
            " message again, or go on with the next round."
        )
    return state.answers[step]


def masks_of(state: PartyState) -> Iterator[tuple[bytes, bool]]:
    """The keys of a party's masks, its own and one with each party whose shares it holds, and whether each is added."""
    yield bytes.fromhex(state.seed), True
    private, context = bytes.fromhex(state.mask_private), bytes.fromhex(state.context)
    for other in state.held:
        if other != state.party:
            public = bytes.fromhex(state.book[other]["mask_key"])
            yield mask_seed(private, public, context, state.party, other), state.party < other


def masked(state: PartyState, words: Words, *, declared: SecureAggregation) -> Words:
    """What a party adds to the sum, under all of its masks."""
    from policies.secure_sums.masks import add_mask

    hidden = words.copy()
    for seed, plus in masks_of(state):
        add_mask(hidden, seed, plus)
    return hidden


def masked_numbers(state: PartyState, numbers: Sequence[int]) -> list[int]:
    """The same of a few whole numbers, modulo 2^32, without numpy: for a small device."""
    hidden = [number % 2**WORD for number in numbers]
    for seed, plus in masks_of(state):
        words = struct.unpack(f"<{len(hidden)}I", key_stream(seed, 4 * len(hidden)))
        hidden = [(number + (word if plus else -word)) % 2**WORD for number, word in zip(hidden, words, strict=True)]
    return hidden


# -- the steps -------------------------------------------------------------------------------------------------------


def _keys(state: PartyState, message: dict[str, Any], _: SecureAggregation, key: Any, __: bool) -> dict[str, Any]:
    if set(message) != {"weights_digest"}:
        raise messages.unreadable("the first step says the digest of the weights and nothing else")
    announced = {
        "mask_key": _public(state.mask_private),
        "box_key": _public(state.box_private),
        "seed_digest": seed_digest(state.seed),
    }
    signature = messages.signed(key, messages.keys_text(state.context, state.party, announced))
    return {"party": state.party, **announced, "signature": signature}


def _shares(
    state: PartyState, message: dict[str, Any], declared: SecureAggregation, _: Any, __: bool
) -> dict[str, Any]:
    book = {
        party: messages.announced_in(announced)
        for party, announced in messages.numbered(declared, message.get("book"), "book").items()
    }
    check_book(state, book, declared)
    shared = [
        split(bytes.fromhex(secret), threshold=declared.threshold, parties=len(declared.hospitals))
        for secret in (state.seed, state.mask_private)
    ]
    boxes = {}
    for other in book:
        shares = shared[0][other], shared[1][other]
        if other == state.party:
            state.held[other] = shares
        else:
            text = b"".join(share.to_bytes(SHARE_BYTES, "big") for share in shares)
            box = _box(state, book[other], state.party, other)
            boxes[str(other)] = box.encrypt(bytes(12), text, None).hex()  # a key of one box: its nonce is 0
    state.book = book
    return {"boxes": boxes}


def check_book(state: PartyState, book: Mapping[int, dict[str, str]], declared: SecureAggregation) -> None:
    """Raise `WrongStatus` unless a book has one's own keys, `threshold` parties, all signed, and no key twice."""
    if len(book) < declared.threshold:
        raise WrongStatus(
            f"{len(book)} hospitals gave keys, and threshold={declared.threshold} have to. Wait for the others."
        )
    own = {name: state.answers["keys"][name] for name in (*messages.KEYS, "signature")}
    if book.get(state.party) != own:
        raise WrongStatus("The keys of this datasite are not among those of the round. Send what it gave.")
    for party, announced in book.items():
        messages.check_announced(declared, state.context, party, announced)
    public = [announced[name] for announced in book.values() for name in ("mask_key", "box_key")]
    if len(set(public)) != len(public):
        raise WrongStatus("Two hospitals gave the same key, which no honest one does. Nothing was shared.")
    for party, announced in book.items():
        if party != state.party:
            try:
                mask_seed(*_pair(state, announced["mask_key"]), state.party, party)
                box_key(bytes.fromhex(state.box_private), bytes.fromhex(announced["box_key"]), b"", 1, 2)
            except ValueError:
                name = declared.hospitals[party - 1].name
                raise WrongStatus(f"No secret can be agreed with a key of {name}. Nothing was shared.") from None


def _boxes(state: PartyState, message: dict[str, Any], declared: SecureAggregation, _: Any, __: bool) -> dict[str, Any]:
    boxes = messages.numbered(declared, message.get("boxes"), "boxes")
    if not set(boxes) <= set(state.book) - {state.party}:
        raise WrongStatus("A box comes from a hospital that gave no keys in this round. Leave it out.")
    if len(boxes) + 1 < declared.threshold:
        raise WrongStatus(
            f"{len(boxes) + 1} hospitals shared their secrets, and threshold={declared.threshold} have to. Wait for the"
            " others."
        )
    held = {sender: _opened(state, sender, sealed, declared) for sender, sealed in boxes.items()}
    state.held |= held
    return {"parties": sorted(state.held)}


def _opened(state: PartyState, sender: int, sealed: object, declared: SecureAggregation) -> tuple[int, int]:
    content = bytes.fromhex(messages.hex_of(sealed, "a box", BOX_BYTES))
    try:
        text = _box(state, state.book[sender], sender, state.party).decrypt(bytes(12), content, None)
    except InvalidTag:
        name = declared.hospitals[sender - 1].name
        raise WrongStatus(
            f"The box of {name} is not one that it sealed for this datasite in this round. Send what it gave."
        ) from None
    return int.from_bytes(text[:SHARE_BYTES], "big"), int.from_bytes(text[SHARE_BYTES:], "big")


def _survivors(
    state: PartyState, message: dict[str, Any], declared: SecureAggregation, key: Any, has_released: bool
) -> dict[str, Any]:
    survivors = messages.parties_in(declared, message.get("survivors"), "survivors")
    if not has_released or state.party not in survivors:
        raise WrongStatus("This datasite has released nothing in this round, or is not named as one that did.")
    check_enough(state, survivors, declared)
    state.survivors = survivors
    return {"signature": messages.signed(key, messages.survivors_text(state.context, survivors))}


def check_enough(state: PartyState, survivors: tuple[int, ...], declared: SecureAggregation) -> None:
    """Raise `WrongStatus` unless a sum is over `threshold` or more of those whose shares are held."""
    if not set(survivors) <= set(state.held):
        raise WrongStatus("The sum names a hospital that shared no secrets in this round. Leave it out.")
    if len(survivors) < declared.threshold:
        raise WrongStatus(
            f"The sum is over {len(survivors)} hospitals, and threshold={declared.threshold} is the fewest. Wait for"
            " the others."
        )


def _reveal(
    state: PartyState, message: dict[str, Any], declared: SecureAggregation, _: Any, __: bool
) -> dict[str, Any]:
    signatures = {
        party: messages.hex_of(signature, "a signature", 64)
        for party, signature in messages.numbered(declared, message.get("signatures"), "signatures").items()
    }
    messages.check_survivors(declared, state.context, state.survivors, signatures)
    seeds = {str(party): f"{shares[0]:066x}" for party, shares in state.held.items() if party in state.survivors}
    keys = {str(party): f"{shares[1]:066x}" for party, shares in state.held.items() if party not in state.survivors}
    for name in SECRETS:
        setattr(state, name, "")
    state.held = {}
    return {"seeds": seeds, "keys": keys}


_STEPS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "keys": _keys,
    "shares": _shares,
    "boxes": _boxes,
    "survivors": _survivors,
    "reveal": _reveal,
}


def seed_digest(seed: str) -> str:
    """What a party says of its own mask's key beforehand, so that a share of another one is noticed."""
    return hashlib.sha256(b"private-datasites secure sum 1 seed\n" + bytes.fromhex(seed)).hexdigest()


def _public(private: str) -> str:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw().hex()


def _pair(state: PartyState, public: str) -> tuple[bytes, bytes, bytes]:
    return bytes.fromhex(state.mask_private), bytes.fromhex(public), bytes.fromhex(state.context)


def _box(state: PartyState, announced: Mapping[str, str], sender: int, recipient: int) -> ChaCha20Poly1305:
    private, public = bytes.fromhex(state.box_private), bytes.fromhex(announced["box_key"])
    return ChaCha20Poly1305(box_key(private, public, bytes.fromhex(state.context), sender, recipient))
