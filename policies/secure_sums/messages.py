"""What the parties of a secure sum sign and seal, and reading what comes back by way of a relay that may lie.

A round's context is a digest of the request's text, the round, the roster with threshold and mode, and the weights that
came in: two hospitals that were sent different weights, or another roster, share no context, so no key agrees, no
signature holds, and their masks never meet (Pasquini et al. 2021, arXiv:2111.07380).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from policies.canonical import canonical
from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.secure_aggregation import SecureAggregation

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SIGNED = b"private-datasites secure sum 1\n"  # so that a signature of anything else is none of a sum's
LONGEST_MESSAGE = 1 << 18
KEYS = ("mask_key", "box_key", "seed_digest")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


def context_of(declared: SecureAggregation, *, source_sha256: str, round_number: int, weights_digest: str) -> str:
    """The context of a round, in hex."""
    facts = {
        "source": source_sha256,
        "round": round_number,
        "weights": weights_digest,
        "secure_aggregation": declared.as_dict(),
    }
    return hashlib.sha256(_SIGNED + canonical(facts)).hexdigest()


def keys_text(context: str, party: int, announced: Mapping[str, Any]) -> bytes:
    """What a party signs of its round keys."""
    keys = {name: announced[name] for name in KEYS}
    return _SIGNED + canonical({"what": "keys", "context": context, "party": party, **keys})


def survivors_text(context: str, survivors: Iterable[int]) -> bytes:
    """What a party signs of who is in the sum."""
    return _SIGNED + canonical({"what": "survivors", "context": context, "survivors": sorted(survivors)})


def signed(private_key: Ed25519PrivateKey, text: bytes) -> str:
    """The signature in hex."""
    return private_key.sign(text).hex()


def is_signed(declared: SecureAggregation, party: int, text: bytes, signature: str) -> bool:
    """Whether the certificate key of a party of the roster signed a text."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(declared.hospitals[party - 1].key))
        key.verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def digest_of(message: Mapping[str, Any]) -> str:
    """Of a whole message."""
    return hashlib.sha256(canonical(message)).hexdigest()


def check_announced(declared: SecureAggregation, context: str, party: int, announced: Mapping[str, Any]) -> None:
    """Raise `WrongStatus` unless round keys were signed by the party's certificate key for this very context."""
    if not is_signed(declared, party, keys_text(context, party, announced), announced["signature"]):
        name = declared.hospitals[party - 1].name
        raise WrongStatus(
            f"The round keys of {name} are not signed by its certificate key for this request, round, roster and these"
            " weights. Nothing was added up; begin the round anew with the same weights for everybody."
        )


def check_survivors(
    declared: SecureAggregation, context: str, survivors: Iterable[int], signatures: Mapping[int, str]
) -> None:
    """Raise `WrongStatus` unless at least `threshold` of the survivors signed this very set of them."""
    those, text = set(survivors), survivors_text(context, survivors)
    agreed = [p for p, signature in signatures.items() if p in those and is_signed(declared, p, text, signature)]
    if len(agreed) < declared.threshold:
        raise WrongStatus(
            f"{len(agreed)} hospitals signed that these are the ones in the sum, and threshold={declared.threshold}"
            " have to. Nothing is opened; ask the others for their signatures."
        )


# -- reading ---------------------------------------------------------------------------------------------------------


def read_message(text: object) -> dict[str, Any]:
    """The mapping in a message. Raises `InvalidRequest` where a text is none."""
    try:
        data = json.loads(text) if isinstance(text, str) and len(text) <= LONGEST_MESSAGE else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise unreadable(f"it is no JSON object of at most {LONGEST_MESSAGE} characters")
    return data


def numbered(declared: SecureAggregation, data: object, what: str) -> dict[int, Any]:
    """A mapping by party, its keys as numbers of the roster."""
    if not isinstance(data, dict):
        raise unreadable(f"{what} is no mapping by hospital")
    known = {str(party): party for party in range(1, len(declared.hospitals) + 1)}
    if unknown := [name for name in data if name not in known]:
        raise unreadable(f"{what} names hospital {str(unknown[0])[:20]!r} of {len(known)}")
    return {known[name]: value for name, value in data.items()}


def parties_in(declared: SecureAggregation, data: object, what: str) -> tuple[int, ...]:
    """A list of different parties, sorted."""
    count = len(declared.hospitals)
    sound = isinstance(data, list) and all(type(party) is int and 1 <= party <= count for party in data)
    if not sound or len(set(data)) != len(data):  # type: ignore[arg-type, call-overload]
        raise unreadable(f"{what} is no list of different hospitals, as [1, 2]")
    return tuple(sorted(data))  # type: ignore[call-overload]


def hex_of(data: object, what: str, size: int) -> str:
    """A text of `size` bytes in hex."""
    if not isinstance(data, str) or len(data) != 2 * size or not _HEX.fullmatch(data):
        raise unreadable(f"{what} is not {size} bytes in hex")
    return data


def announced_in(data: object) -> dict[str, str]:
    """One party's signed round keys."""
    if not isinstance(data, dict) or set(data) != {*KEYS, "signature"}:
        raise unreadable("round keys have other fields than they should")
    keys = {name: hex_of(data[name], name, 32) for name in KEYS}
    return {**keys, "signature": hex_of(data["signature"], "signature", 64)}


def unreadable(why: str) -> InvalidRequest:
    """The error for a message of another form."""
    return InvalidRequest(f"This message of a secure sum cannot be read: {why}. Use the researcher package's own.")
