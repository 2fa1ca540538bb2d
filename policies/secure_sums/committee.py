"""One device's part of a sum over a whole team. Who relays is trusted with nothing but its own result.

    join      a member of the committee makes a round key, and signs it for this question
    numbers   every device sees that the committee is the one that chance drew from the team, and that enough of it
              joined; it shares its numbers among them, each share under a pad that it and the member alone can make
    sum       a member sees which devices are in the sum, by a signature of each; it gives its shares' sum, once

The committee's places follow from the team's root and the question by a hash that is slow on purpose, and each
member's key is proved to lie at its place. A device is in a sum by its signature alone, so none can be counted that
sent nothing, and pads bind its shares to what it sent: who relays can move a share by what it knows, and read none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from policies.canonical import canonical
from policies.errors import WrongStatus
from policies.privacy.team_sums import TeamSum
from policies.secure_sums.merkle import proved_root, root_of
from policies.secure_sums.messages import hex_of, unreadable
from policies.secure_sums.polynomials import PRIME, WIDE, evenly, split

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SIGNED = b"private-datasites team sum 1\n"
SLOW = 2**18
"""Rounds of PBKDF2 that one draw of a committee takes: who looks for a committee of its own pays them for each try."""
KEY_BYTES, SIGNATURE_BYTES = 32, 64


@dataclass(frozen=True)
class Member:
    """One of the committee that joined: its place in the team from 0, its lasting key and its key of this question."""

    place: int
    key: str
    round_key: str


class Work:
    """What takes a device's time. Simulated devices share what is the same for all of them; a real one does it all."""

    def secret(self, private: X25519PrivateKey, own: str, other: str) -> bytes:
        """What the owners of two round keys share. Raises `ValueError` where `other` is no key to agree with."""
        return private.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(other)))

    def is_signed(self, key: str, text: bytes, signature: str) -> bool:
        """Whether a device's lasting key signed a text."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), text)
        except (InvalidSignature, ValueError):
            return False
        return True

    def joined(self, team: TeamSum, context: str, message: Mapping[str, Any]) -> tuple[Member, ...]:
        """The members of a message, as `checked_members`."""
        return checked_members(team, context, message, self)

    def team_keys(self, team: TeamSum, keys: object) -> list[str]:
        """The keys of a message, as `checked_keys`."""
        return checked_keys(team, keys)


def context_of(digest: str, team: TeamSum) -> str:
    """Of the one sum of a question, in hex: what is signed or agreed on in another is worth nothing in it."""
    return hashlib.sha256(_SIGNED + canonical({"question": digest, "team": team.as_dict()})).hexdigest()


@lru_cache(maxsize=64)
def committee_places(team: TeamSum, context: str) -> tuple[int, ...]:
    """The places of the committee in the order in which chance draws them, each once."""
    seed = hashlib.pbkdf2_hmac("sha256", bytes.fromhex(context), b"private-datasites committee 1", SLOW)
    places: dict[int, None] = {}
    turn = 0
    while len(places) < team.committee.size:
        drawn = hashlib.sha256(seed + b"%d" % turn).digest()
        places[int.from_bytes(drawn, "big") % team.devices] = None  # of 256 bits: even to 2^-240
        turn += 1
    return tuple(places)


def join_text(context: str, round_key: str) -> bytes:
    """What a member signs of its round key."""
    return _SIGNED + f"join {context} {round_key}".encode()


def numbers_text(context: str, round_key: str) -> bytes:
    """What a device signs as it sends its numbers."""
    return _SIGNED + f"numbers {context} {round_key}".encode()


def new_round_key() -> tuple[X25519PrivateKey, str]:
    """A pair of the operating system's randomness, and its public half in hex."""
    private = X25519PrivateKey.generate()
    return private, private.public_key().public_bytes_raw().hex()


def checked_members(team: TeamSum, context: str, message: Mapping[str, Any], work: Work) -> tuple[Member, ...]:
    """The members of the committee that a device shares its numbers among.

    Args:
      message: `members` has place, lasting key, round key and signature of each that joined; `proof` what proves that
        these keys lie at these places of the team.

    Raises:
      WrongStatus: they are not the committee that was drawn, too few of it, or not of the team; or a round key was not
        signed by its member for this question.
      InvalidRequest: the message is none.
    """
    rows, proof = message.get("members"), message.get("proof")
    if set(message) != {"members", "proof"} or not isinstance(rows, list) or not isinstance(proof, list):
        raise unreadable("it has no members and no proof of them")
    members = [_member(row) for row in rows]
    drawn, needed = committee_places(team, context), team.committee.needed
    places = [member.place for member, _ in members]
    if len(set(places)) != len(places) or not set(places) <= set(drawn):
        raise WrongStatus(
            "A member of this committee was not drawn from the team by the hash of this question. Nothing was shared."
        )
    if len(members) < needed:
        raise WrongStatus(
            f"{len(members)} of the committee joined, and {needed} of {len(drawn)} have to. Wait for the others."
        )
    keys = {member.place: bytes.fromhex(member.key) for member, _ in members}
    if proved_root(team.devices, keys, proof) != team.root:
        raise WrongStatus("A member of this committee is not of the team that was accepted. Nothing was shared.")
    if len({member.round_key for member, _ in members}) != len(members):
        raise WrongStatus("Two members of the committee gave one key, which no honest one does. Nothing was shared.")
    for member, signature in members:
        if not work.is_signed(member.key, join_text(context, member.round_key), signature):
            raise WrongStatus("A member's round key is not signed by it for this question. Nothing was shared.")
    return tuple(member for member, _ in members)


def shared_out(
    team: TeamSum, context: str, members: Sequence[Member], numbers: Sequence[int], *, own: str, work: Work
) -> dict[str, Any]:
    """A device's numbers in shares for each member, under a round key that is forgotten at once.

    Args:
      own: the device's lasting key, in hex.

    Raises `WrongStatus` where no secret can be agreed on with a member's key.
    """
    private, round_key = new_round_key()
    committee = team.committee
    order = {place: number for number, place in enumerate(committee_places(team, context))}
    shares = [split(number, needed=committee.needed, size=committee.size) for number in numbers]
    hidden = {}
    for member in members:
        try:
            secret = work.secret(private, round_key, member.round_key)
        except ValueError:
            raise WrongStatus("No secret can be agreed on with a member of the committee. None was shared.") from None
        pads = _pads(secret, context, (own, round_key), (member.key, member.round_key), len(numbers))
        place = order[member.place]
        hidden[str(member.place)] = [(one[place] + pad) % PRIME for one, pad in zip(shares, pads, strict=True)]
    return {"key": round_key, "shares": hidden}


def checked_keys(team: TeamSum, keys: object) -> list[str]:
    """All keys of a team in their order. Raises `WrongStatus` where they are not those of its root, or one is twice."""
    if not isinstance(keys, list) or len(keys) != team.devices:
        raise unreadable("it does not hold the keys of the whole team")
    texts = [hex_of(key, "a key", KEY_BYTES) for key in keys]
    if len(set(texts)) != len(texts) or root_of([bytes.fromhex(key) for key in texts]) != team.root:
        raise WrongStatus("These are not the keys of the team that was accepted. Nothing was added up.")
    return texts


def summed(
    team: TeamSum,
    context: str,
    message: Mapping[str, Any],
    *,
    private: bytes,
    own: str,
    count: int,
    work: Work,
) -> list[int]:
    """A member's answer to `sum`: the sums of its shares over the devices that are named.

    Args:
      message: `keys` of the whole team; `answers` has place, round key, signature and shares of each device in the sum.
      private: the member's round key; `own` its lasting key.
      count: of numbers of each device.

    Raises:
      WrongStatus: the team is another, this device is not of the committee, fewer than `threshold` devices are named,
        one twice, or one that did not sign what it sent for this question.
      InvalidRequest: the message is none.
    """
    if set(message) != {"keys", "answers"} or not isinstance(message["answers"], list):
        raise unreadable("it has no keys and no answers of devices")
    keys = work.team_keys(team, message["keys"])
    if own not in keys or keys.index(own) not in committee_places(team, context):
        raise WrongStatus("This device is not of this question's committee. Ask those who are.")
    answers = [_answer(row, team.devices, count) for row in message["answers"]]
    places = {place for place, *_ in answers}
    if len(places) != len(answers):
        raise WrongStatus("The sum names a device twice. Name each once.")
    if len(places) < team.threshold:
        raise WrongStatus(
            f"The sum is over {len(places)} devices, and threshold={team.threshold} is the fewest. Wait for the others."
        )
    for place, round_key, signature, _ in answers:
        if not work.is_signed(keys[place], numbers_text(context, round_key), signature):
            raise WrongStatus("A device of the sum did not sign what it sent for this question. Leave it out.")
    pair = X25519PrivateKey.from_private_bytes(private)
    round_key = pair.public_key().public_bytes_raw().hex()
    total = [0] * count
    for place, theirs, _, shares in answers:
        try:
            secret = work.secret(pair, round_key, theirs)
        except ValueError:
            raise WrongStatus("No secret can be agreed on with a device of the sum. Leave it out.") from None
        pads = _pads(secret, context, (keys[place], theirs), (own, round_key), count)
        total = [before + share - pad for before, share, pad in zip(total, shares, pads, strict=True)]
    return [number % PRIME for number in total]


def _pads(secret: bytes, context: str, device: Iterable[str], member: Iterable[str], count: int) -> list[int]:
    """What hides one device's shares for one member: SHAKE256 (FIPS 202) of their secret and what they agree about."""
    text = b"".join((_SIGNED, secret, *map(bytes.fromhex, (context, *device, *member))))
    return evenly(hashlib.shake_256(text).digest(WIDE * count))


def _member(row: object) -> tuple[Member, str]:
    if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int:
        raise unreadable("a member is written as [PLACE, KEY, ROUND KEY, SIGNATURE]")
    key, round_key = hex_of(row[1], "a key", KEY_BYTES), hex_of(row[2], "a key", KEY_BYTES)
    return Member(row[0], key, round_key), hex_of(row[3], "a signature", SIGNATURE_BYTES)


def _answer(row: object, devices: int, count: int) -> tuple[int, str, str, list[int]]:
    if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int or not 0 <= row[0] < devices:
        raise unreadable("a device of the sum is written as [PLACE, ROUND KEY, SIGNATURE, SHARES]")
    key, signature = hex_of(row[1], "a key", KEY_BYTES), hex_of(row[2], "a signature", SIGNATURE_BYTES)
    return row[0], key, signature, shares_in(row[3], count)


def shares_in(data: object, count: int) -> list[int]:
    """Elements of the field. Raises `InvalidRequest` where they are none, or not so many."""
    sound = isinstance(data, list) and len(data) == count and all(type(one) is int and 0 <= one < PRIME for one in data)
    if not sound:
        raise unreadable(f"shares are not {count} whole numbers of the field")
    return list(data)  # type: ignore[call-overload, no-any-return]


def signed(key: Ed25519PrivateKey, text: bytes) -> str:
    """In hex."""
    return key.sign(text).hex()
