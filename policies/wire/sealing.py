"""Calls sealed to one datasite with HPKE (RFC 9180), so that whoever carries them reads and changes nothing.

A datasite has one lasting key, the Ed25519 key that signs its answers; people compare it as words
(`policies.wire.key_words`). With it, it signs *statements*: which X25519 key calls are sealed to now, for the asker's
own fresh nonce. Those keys live in the datasite's memory for an hour or so, so that calls that were recorded cannot be
opened later, nor be given to it again after a restart.

A call is sealed in HPKE's base mode and carries a fresh key, under which its answer is sealed: only who opened the call
can answer it, and an answer fits no other call. Lengths are padded, since those of passwords and refusals would tell.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from policies.wire.key_words import fingerprint

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
CALL, ANSWER, STATEMENT = (f"private-datasites {what} 1".encode() for what in ("call", "answer", "statement"))
FOR_CALLS = "calls"  # what a statement is for; one for a coordinator names its address
NONCE, ENCAPSULATED, KEY = 32, 32, 32  # bytes
PADDING = 4096  # bytes, of which what is sealed is a multiple
OVERHEAD = 2 * PADDING  # bytes that sealing adds at most to a body with a short head
LARGEST_STATEMENT, LONGEST_NAME = 4096, 200
METHODS = ("GET", "POST")


class NotOpened(Exception):
    """Bytes that are not sealed for this key, or were changed on the way. The text repeats nothing of them."""


@dataclass(frozen=True)
class Call:
    """An HTTP request as it is sealed.

    Args:
      target: path and query.
      answer_key: 32 fresh bytes, under which its answer is sealed.
    """

    method: str
    target: str
    body: bytes
    content_type: str
    answer_key: bytes


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it is sealed."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Statement:
    """What a datasite said of itself: its lasting key, the key that calls are sealed to now, and its name."""

    identity: bytes
    call_key: bytes
    name: str


def new_answer_key() -> bytes:
    """A key for one answer."""
    return os.urandom(KEY)


# -- statements -------------------------------------------------------------------------------------------------------


def state(identity: Ed25519PrivateKey, *, purpose: str, nonce: bytes, call_key: bytes, name: str) -> bytes:
    """A signed statement that calls are sealed to `call_key` now.

    Args:
      purpose: `FOR_CALLS`, or the address of the coordinator that a dial-out attaches to.
      nonce: of who asks, 32 bytes.
    """
    public = identity.public_key().public_bytes_raw()
    signature = identity.sign(_stated(purpose, nonce, call_key, name))
    parts = {"identity": public.hex(), "call_key": call_key.hex(), "name": name, "signature": signature.hex()}
    return json.dumps(parts).encode()


def check_statement(content: bytes, *, purpose: str, nonce: bytes, of: bytes | None = None) -> Statement:
    """The statement in these bytes, where the key that it names signed it for this purpose and this nonce.

    Args:
      of: the fingerprint that its key must have.

    Raises:
      NotOpened: it is no such statement, or another key's.
    """
    try:
        parts = _parts(content)
        statement = Statement(bytes.fromhex(parts["identity"]), bytes.fromhex(parts["call_key"]), parts["name"])
        if len(statement.call_key) != KEY or len(statement.name) > LONGEST_NAME:
            raise ValueError
        key, signature = Ed25519PublicKey.from_public_bytes(statement.identity), bytes.fromhex(parts["signature"])
        key.verify(signature, _stated(purpose, nonce, statement.call_key, statement.name))
    except (ValueError, KeyError, TypeError, RecursionError, InvalidSignature):
        raise NotOpened("This is no signed statement of a datasite.") from None
    if of is not None and fingerprint(statement.identity) != of:
        raise NotOpened("This is another datasite's statement.")
    return statement


def _parts(content: bytes) -> dict[str, str]:
    if len(content) > LARGEST_STATEMENT:
        raise ValueError
    parts = json.loads(content)
    if not isinstance(parts, dict) or not all(isinstance(value, str) for value in parts.values()):
        raise ValueError
    return parts


def _stated(purpose: str, nonce: bytes, call_key: bytes, name: str) -> bytes:
    if len(nonce) != NONCE:
        raise ValueError("a nonce has 32 bytes")
    named = json.dumps([purpose, nonce.hex(), call_key.hex(), name]).encode()
    return STATEMENT + b"\0" + named


# -- calls and answers ------------------------------------------------------------------------------------------------


def seal_call(call: Call, call_key: bytes) -> bytes:
    """A call that only the holder of `call_key`'s private half can open."""
    head = {"m": call.method, "t": call.target, "c": call.content_type, "k": call.answer_key.hex()}
    return SUITE.encrypt(_packed(head, call.body), X25519PublicKey.from_public_bytes(call_key), info=CALL)


def open_call(sealed: bytes, private: X25519PrivateKey) -> Call:
    """The call in sealed bytes. Raises `NotOpened`."""
    try:
        head, body = _unpacked(SUITE.decrypt(sealed, private, info=CALL))
        method, target, content_type, key = head["m"], head["t"], head["c"], bytes.fromhex(head["k"])
    except (InvalidTag, ValueError, KeyError, TypeError, RecursionError):
        raise NotOpened("This is no call that was sealed for this datasite.") from None
    if method not in METHODS or len(key) != KEY or not isinstance(target, str) or not isinstance(content_type, str):
        raise NotOpened("This is no call that was sealed for this datasite.")
    return Call(method, target, body, content_type, key)


def seal_answer(answer: Answer, answer_key: bytes) -> bytes:
    """An answer for who sealed the call. A call's key seals one answer, so the AEAD's nonce is constant."""
    return ChaCha20Poly1305(answer_key).encrypt(bytes(12), _packed({"s": answer.status}, answer.body), ANSWER)


def open_answer(sealed: bytes, answer_key: bytes) -> Answer:
    """The answer to the call that carried this key. Raises `NotOpened`."""
    try:
        head, body = _unpacked(ChaCha20Poly1305(answer_key).decrypt(bytes(12), sealed, ANSWER))
        status = head["s"]
    except (InvalidTag, ValueError, KeyError, TypeError, RecursionError):
        raise NotOpened("This is no answer to this call.") from None
    if type(status) is not int or not 100 <= status < 600:
        raise NotOpened("This is no answer to this call.")
    return Answer(status, body)


def _packed(head: dict[str, Any], body: bytes) -> bytes:
    written = json.dumps(head).encode()
    size = 8 + len(written) + len(body)
    lengths = len(written).to_bytes(4, "big") + (-size % PADDING).to_bytes(4, "big")
    return b"".join((lengths, written, body, bytes(-size % PADDING)))


def _unpacked(content: bytes) -> tuple[dict[str, Any], bytes]:
    written, padding = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
    if 8 + written + padding > len(content):
        raise ValueError
    head = json.loads(content[8 : 8 + written])
    if not isinstance(head, dict):
        raise ValueError
    return head, content[8 + written : len(content) - padding]
