"""A signed message of PySyft's, opened as byte strings: who signed, what was signed, and the signature.

Nothing is built from the bytes and nothing is believed: each side checks the signature, and whether it knows the key,
before it reads the message.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.wire.capnp import read_named


@dataclass(frozen=True)
class Envelope:
    """The parts of a signed message. `key` is Ed25519's 32 bytes if it is one at all."""

    key: bytes
    message: bytes
    signature: bytes


def read_envelope(data: bytes) -> Envelope:
    """The parts of a signed call or a signed answer, which PySyft names alike. Raises `ValueError`."""
    envelope = _fields(data, "SignedSyftAPICall")
    try:
        key = _fields(envelope["credentials"], "SyftVerifyKey")["verify_key"]
        return Envelope(
            _leaf(key, "nacl_verify_key"),
            _leaf(envelope["serialized_message"], "bytes"),
            _leaf(envelope["signature"], "bytes"),
        )
    except KeyError:
        raise ValueError("a part is missing") from None


def read_path(message: bytes) -> str:
    """The path that the message of a call names, with nothing of its arguments built. Raises `ValueError`."""
    path = _fields(message, "SyftAPICall").get("path")
    if path is None:
        raise ValueError("a part is missing")
    return _leaf(path, "str").decode()


def _fields(blob: bytes, name: str) -> dict[str, bytes]:
    """The fields of one named object as bytes, with nothing built from them."""
    message = read_named(blob)
    if message.canonicalName != name:
        raise ValueError("another object")
    return {field: b"".join(data) for field, data in zip(message.fieldsName, message.fieldsData, strict=True)}


def _leaf(blob: bytes, name: str) -> bytes:
    message = read_named(blob)
    if message.canonicalName != name:
        raise ValueError("another object")
    return b"".join(message.nonrecursiveBlob)
