"""The kernel's keystream is AES-256 in counter mode, to the bit, and a source draws the same with it and without."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from datasites.engine.lanes import compiled, readiness
from datasites.engine.lanes import keystream as streams
from datasites.engine.lanes.compiled import Kernels, KernelsMissing
from datasites.engine.lanes.keystream import Keystream, expanded, room_for
from datasites.engine.noise import NoiseSource
from policies.errors import DatasiteError
from tests.datasites.engine.lanes.guarded import guarded, survives


@pytest.fixture
def ciphering(kernels: Kernels) -> Kernels:
    if "keystream" not in kernels.entries:
        pytest.skip("This processor has no instructions for four blocks at once.")
    return kernels


def drawn(key: bytes, kernels: Kernels, first: int, blocks: int) -> bytes:
    out = np.zeros(room_for(blocks), dtype=np.uint64)
    Keystream(key).fill(kernels, first, blocks, out)
    return out[: 2 * blocks].tobytes()


def test_keys_of_rounds_are_those_of_the_standard() -> None:
    # FIPS 197, appendix A.3.
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    words = expanded(key).reshape(15, 4, 2)
    assert (words == words[:, :1]).all()
    written = words[:, 0].tobytes()
    assert written[:32] == key
    for number, value in {8: "9ba35411", 9: "8e6925af", 12: "a8b09c1a", 16: "d59aecb8", 59: "706c631e"}.items():
        assert written[4 * number : 4 * number + 4].hex() == value


def test_the_first_blocks_are_known_answers(ciphering: Kernels) -> None:
    # AES-256 of the zero key: of block 0 (NIST AESAVS) and of block 1 (the tag of case 13 of GCM's specification).
    assert (
        drawn(bytes(32), ciphering, 0, 2).hex()
        == "dc95c078a2408989ad48a21492842087" + "530f8afbc74536b9a963b4f1c4cb738b"
    )


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("first", [0, 1, 31, 2**32 - 5, 2**40 + 7, 2**61])
@pytest.mark.parametrize("blocks", [0, 1, 31, 32, 33, 1000])
def test_every_block_is_that_of_another_library(blocks: int, first: int, level: str, ciphering: Kernels) -> None:
    if level > ciphering.level:
        pytest.skip("This processor is of the other level.")
    kernels, key = compiled._load(compiled.directory(), level), os.urandom(32)
    cipher = Cipher(algorithms.AES256(key), modes.CTR(first.to_bytes(16, "big"))).encryptor()
    assert drawn(key, kernels, first, blocks) == cipher.update(bytes(16 * blocks))


def test_a_source_draws_the_same_with_the_kernel_and_without(
    ciphering: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [NoiseSource(b"k" * 32) for _ in range(3)]
    seen: list[list[bytes]] = [[], [], []]
    for draw in range(12):
        for number, source in enumerate(sources):
            # Without, with, and in turns.
            used = ciphering if number == 1 or (number == 2 and draw % 3) else None
            monkeypatch.setattr(compiled, "_loaded", used)
            seen[number] += [source.words(draw * 37).tobytes(), source.bernoulli(draw * 13 + 1, 0.3).tobytes()]
    assert seen[0] == seen[1] == seen[2]
    long = [part for part in seen[0] if len(part) > 20]
    assert len(set(long)) == len(long)


def test_a_processor_without_the_instructions_takes_the_other_library(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = compiled._processor_flags()
    monkeypatch.setattr(compiled, "_processor_flags", lambda: flags - {"vaes"})
    without = compiled._load(compiled.directory(), kernels.level)
    assert set(without.entries) == set(compiled.ARGUMENTS) - {"keystream"}
    monkeypatch.setattr(compiled, "_loaded", without)
    monkeypatch.setattr(Keystream, "fill", None)
    cipher = Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor()
    assert NoiseSource(bytes(32)).words(100).tobytes() == cipher.update(bytes(800))
    readiness.check_noise(without)


def test_the_self_test_finds_another_keystream(ciphering: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    readiness.check_noise(ciphering)
    monkeypatch.setattr(streams, "_SHAPE", np.where(np.arange(16) == 3, 2, streams._SHAPE))
    with pytest.raises(KernelsMissing, match="keystream"):
        readiness.check_noise(ciphering)


def test_the_kernel_stays_within_its_arrays(ciphering: Kernels) -> None:
    for at_end in (True, False):
        keys, shape, out = (guarded(size, np.int64, at_end=at_end) for size in (120, 16, 128))
        keys[:], shape[:] = expanded(bytes(32)), streams._SHAPE
        unused = (ctypes.c_int64 * 4)()
        at = ctypes.addressof(unused)
        arguments = (at, at + 8, keys.ctypes.data, shape.ctypes.data, 5, 64, out.ctypes.data)
        assert survives(lambda arguments=arguments: ciphering.entries["keystream"](*arguments))


def test_what_is_no_key_or_no_place_is_refused(ciphering: Kernels) -> None:
    with pytest.raises(DatasiteError, match="32 bytes"):
        Keystream(bytes(16))
    for first, blocks in ((-1, 1), (0, -1), (2**62, 1)):
        with pytest.raises(DatasiteError, match="fewer than"):
            Keystream(bytes(32)).fill(ciphering, first, blocks, np.zeros(64, np.uint64))
    for out in (np.zeros(63, np.uint64), np.zeros(64), np.zeros(128, np.uint64)[::2]):
        with pytest.raises(DatasiteError, match="room for 64"):
            Keystream(bytes(32)).fill(ciphering, 0, 1, out)  # type: ignore[arg-type]


def test_a_repr_tells_no_key() -> None:
    assert "object at" in repr(Keystream(bytes(32)))
