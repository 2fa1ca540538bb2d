"""Sealed calls: HPKE by its published vectors, and nothing that was changed, or sealed for another, opens."""

from __future__ import annotations

import hashlib
import hmac
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from policies.errors import InvalidRequest
from policies.wire.key_words import WORDS, fingerprint, fingerprint_in, words_of
from policies.wire.sealing import (
    ENCAPSULATED,
    OVERHEAD,
    PADDING,
    SUITE,
    Answer,
    Call,
    NotOpened,
    check_statement,
    new_answer_key,
    open_answer,
    open_call,
    seal_answer,
    seal_call,
    state,
)

PRIVATE = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
IDENTITY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NONCE = b"n" * 32


def call(body: bytes = b'{"password": "only for these tests"}') -> Call:
    return Call("POST", "/api/v2/login", body, "application/json", bytes(range(32)))


# RFC 9180, appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode.
VECTOR = {
    name: bytes.fromhex(value)
    for name, value in {
        "info": "4f6465206f6e2061204772656369616e2055726e",
        "skEm": "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
        "enc": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        "skRm": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        "key": "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91",
        "base_nonce": "5c4d98150661b848853b547f",
        "pt": "4265617574792069732074727574682c20747275746820626561757479",
        "aad": "436f756e742d30",
        "ct": "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    }.items()
}


def keys_by_the_rfc(
    private: X25519PrivateKey, enc: bytes, receiver: bytes, other: bytes, info: bytes
) -> tuple[bytes, bytes]:
    """Key and base nonce of RFC 9180's base mode, written from its sections 4.1, 5.1 and 7.1 alone."""

    def extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()

    def expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
        return hmac.new(prk, labelled + b"\x01", hashlib.sha256).digest()[:length]  # one block is enough

    kem, hpke = b"KEM" + (0x20).to_bytes(2, "big"), b"HPKE" + bytes((0, 0x20, 0, 1, 0, 3))
    shared = private.exchange(X25519PublicKey.from_public_bytes(other))
    secret = expand(extract(b"", kem, b"eae_prk", shared), kem, b"shared_secret", enc + receiver, 32)
    context = b"\0" + extract(b"", hpke, b"psk_id_hash", b"") + extract(b"", hpke, b"info_hash", info)
    schedule = extract(secret, hpke, b"secret", b"")
    return expand(schedule, hpke, b"key", context, 32), expand(schedule, hpke, b"base_nonce", context, 12)


def test_hpke_by_the_rfc_gives_the_published_vector() -> None:
    ephemeral = X25519PrivateKey.from_private_bytes(VECTOR["skEm"])
    receiver = X25519PrivateKey.from_private_bytes(VECTOR["skRm"]).public_key().public_bytes_raw()
    assert ephemeral.public_key().public_bytes_raw() == VECTOR["enc"]
    key, nonce = keys_by_the_rfc(ephemeral, VECTOR["enc"], receiver, receiver, VECTOR["info"])
    assert (key, nonce) == (VECTOR["key"], VECTOR["base_nonce"])
    assert ChaCha20Poly1305(key).encrypt(nonce, VECTOR["pt"], VECTOR["aad"]) == VECTOR["ct"]


@pytest.mark.parametrize("content", [b"", b"a call", bytes(100_000)])
def test_what_the_library_seals_opens_by_the_rfc_and_the_other_way_round(content: bytes) -> None:
    sealed = SUITE.encrypt(content, PRIVATE.public_key(), info=b"info")
    enc = sealed[:ENCAPSULATED]
    key, nonce = keys_by_the_rfc(PRIVATE, enc, PUBLIC, enc, b"info")
    assert ChaCha20Poly1305(key).decrypt(nonce, sealed[ENCAPSULATED:], b"") == content
    ephemeral = X25519PrivateKey.generate()
    enc = ephemeral.public_key().public_bytes_raw()
    key, nonce = keys_by_the_rfc(ephemeral, enc, PUBLIC, PUBLIC, b"info")
    assert SUITE.decrypt(enc + ChaCha20Poly1305(key).encrypt(nonce, content, b""), PRIVATE, info=b"info") == content


def test_a_call_and_its_answer_come_back_as_they_were() -> None:
    for body in (b"", b"x", bytes(300_000)):
        assert open_call(seal_call(call(body), PUBLIC), PRIVATE) == call(body)
        answer = Answer(200, body)
        assert open_answer(seal_answer(answer, call().answer_key), call().answer_key) == answer


def test_nothing_that_was_changed_or_cut_opens() -> None:
    sealed, answer = seal_call(call(), PUBLIC), seal_answer(Answer(200, b"yes"), call().answer_key)
    for place in [*range(40), *range(40, len(sealed), 97), len(sealed) - 1]:
        changed = sealed[:place] + bytes((sealed[place] ^ 1,)) + sealed[place + 1 :]
        with pytest.raises(NotOpened):
            open_call(changed, PRIVATE)
    for place in range(0, len(answer), 97):
        with pytest.raises(NotOpened):
            open_answer(answer[:place] + bytes((answer[place] ^ 1,)) + answer[place + 1 :], call().answer_key)
    masked = bytearray(sealed)
    masked[ENCAPSULATED - 1] ^= 128  # a bit that X25519 itself does not look at
    with pytest.raises(NotOpened):
        open_call(bytes(masked), PRIVATE)
    for size in (0, 1, ENCAPSULATED, len(sealed) - 1):
        with pytest.raises(NotOpened):
            open_call(sealed[:size], PRIVATE)
        with pytest.raises(NotOpened):
            open_answer(answer[: min(size, len(answer) - 1)], call().answer_key)


def test_only_the_holder_of_the_key_opens_a_call_and_only_its_caller_the_answer() -> None:
    with pytest.raises(NotOpened):
        open_call(seal_call(call(), PUBLIC), X25519PrivateKey.generate())
    with pytest.raises(NotOpened):
        open_answer(seal_answer(Answer(200, b""), new_answer_key()), new_answer_key())
    with pytest.raises(NotOpened):  # what was sealed for another purpose
        open_call(SUITE.encrypt(b"\0" * 64, PRIVATE.public_key(), info=b"another purpose"), PRIVATE)


@pytest.mark.parametrize("head", [b"[]", b"{}", b"{", b'{"m":"DELETE","t":"/","c":"","k":"' + b"00" * 32 + b'"}'])
def test_a_sealed_head_that_is_none_is_no_call(head: bytes) -> None:
    content = len(head).to_bytes(4, "big") + bytes(4) + head
    with pytest.raises(NotOpened):
        open_call(SUITE.encrypt(content, PRIVATE.public_key(), info=b"private-datasites call 1"), PRIVATE)


def test_lengths_of_passwords_and_refusals_do_not_show() -> None:
    sizes = {len(seal_call(call(os.urandom(size)), PUBLIC)) for size in (20, 90, 3000)}
    assert len(sizes) == 1
    assert (
        len({len(seal_answer(Answer(status, bytes(size)), bytes(32))) for status, size in ((200, 2500), (401, 30))})
        == 1
    )
    for size in (0, 1, PADDING, 123_457):
        assert size < len(seal_call(call(bytes(size)), PUBLIC)) <= size + OVERHEAD


def test_a_statement_is_for_one_purpose_one_nonce_and_one_key() -> None:
    made = state(IDENTITY, purpose="calls", nonce=NONCE, call_key=PUBLIC, name="Rural Hospital")
    whose = fingerprint(IDENTITY.public_key().public_bytes_raw())
    assert check_statement(made, purpose="calls", nonce=NONCE, of=whose).call_key == PUBLIC
    for purpose, nonce, of in (("other:1", NONCE, whose), ("calls", b"m" * 32, whose), ("calls", NONCE, bytes(12))):
        with pytest.raises(NotOpened):
            check_statement(made, purpose=purpose, nonce=nonce, of=of)
    parts = json.loads(made)
    other = Ed25519PrivateKey.generate()
    for name, value in (
        ("call_key", "00" * 32),
        ("call_key", "00" * 31),
        ("name", "Other Hospital"),
        ("identity", other.public_key().public_bytes_raw().hex()),
        ("signature", "00" * 64),
        ("signature", 5),
    ):
        with pytest.raises(NotOpened):
            check_statement(json.dumps(parts | {name: value}).encode(), purpose="calls", nonce=NONCE, of=whose)
    for wrong in (b"", b"[]", b"{}", b"[" * 100_000, made + b" " * 5000):
        with pytest.raises(NotOpened):
            check_statement(wrong, purpose="calls", nonce=NONCE)


def test_a_statement_is_no_answer_of_pysyft_and_no_answer_a_statement() -> None:
    """One key signs both; what it signs for one use must never read as the other."""
    from policies.wire.capnp import read_named

    signed = b"private-datasites statement 1\0" + b"x" * 200
    with pytest.raises(
        ValueError, match="no message"
    ):  # its first four bytes would be a number of segments beyond every bound
        read_named(signed)


def test_words_are_256_and_every_fingerprint_has_its_own() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    print_of_key = fingerprint(b"a key")
    words = words_of(print_of_key)
    assert len(words.split()) == 12
    assert fingerprint_in(words) == fingerprint_in(words.upper().replace(" ", ",  ")) == print_of_key
    assert words_of(fingerprint(b"another key")) != words


@pytest.mark.parametrize(("words", "says"), [("aardvark absurd", "12 words, and these are 2"), ("xyzzy", "'xyzzy'")])
def test_words_that_are_none_are_refused_by_name(words: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        fingerprint_in(words)
