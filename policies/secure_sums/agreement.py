"""Keys that two parties of a secure sum agree on, and the stream that a key expands to.

Keys are X25519's (RFC 7748) through HKDF-SHA256 (RFC 5869), all 256 bits of them; streams are ChaCha20's (RFC 8439). A
key is used for one round and one purpose, so the stream begins at nonce 0. No numpy: a small device needs none.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_ZEROS = bytes(1 << 16)


def key_stream(key: bytes, size: int) -> bytearray:
    """`size` bytes of the stream of a 32-byte key."""
    stream = bytearray(size)
    encryptor, view = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor(), memoryview(stream)
    for begin in range(0, size, len(_ZEROS)):
        encryptor.update_into(memoryview(_ZEROS)[: min(len(_ZEROS), size - begin)], view[begin:])
    return stream


def mask_seed(private: bytes, public: bytes, context: bytes, one: int, other: int) -> bytes:
    """The key of the mask that two parties share: the same from either side.

    Raises `ValueError` where `public` is no point that a key can be agreed with.
    """
    low, high = sorted((one, other))
    return _agreed(private, public, b"mask", context, low, high)


def box_key(private: bytes, public: bytes, context: bytes, sender: int, recipient: int) -> bytes:
    """The key of the one box that a party sends another in a round. Raises `ValueError` as `mask_seed` does."""
    return _agreed(private, public, b"box", context, sender, recipient)


def _agreed(private: bytes, public: bytes, purpose: bytes, context: bytes, first: int, second: int) -> bytes:
    secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    info = b"|".join((b"private-datasites secure sum 1", purpose, context, b"%d" % first, b"%d" % second))
    return HKDF(hashes.SHA256(), 32, None, info).derive(secret)
