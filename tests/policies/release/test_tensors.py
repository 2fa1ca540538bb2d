"""Tensors keep their digest in any container, and only the planned ones are let in."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from policies.errors import WeightsRefused
from policies.release.tensors import DTYPES, Array, check_tensors, digest, from_bytes, to_bytes

names = st.text("abc.weight_0é", min_size=1, max_size=12)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
tensors = st.dictionaries(names, arrays, max_size=4)
PLANNED = {"layer.weight": ((2, 3), "float32"), "layer.bias": ((2,), "float32")}


def good() -> dict[str, Array]:
    return {"layer.weight": np.zeros((2, 3), np.float32), "layer.bias": np.ones(2, np.float32)}


@settings(deadline=None)
@given(tensors)
def test_bytes_give_back_the_same_tensors(given_tensors: dict[str, Array]) -> None:
    back = from_bytes(to_bytes(given_tensors))
    assert list(back) == sorted(given_tensors)
    for name, array in given_tensors.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()
        assert back[name].flags.writeable
    assert digest(back) == digest(given_tensors)


@settings(deadline=None)
@given(tensors, st.randoms())
def test_order_and_memory_layout_change_neither_bytes_nor_digest(
    given_tensors: dict[str, Array], random: object
) -> None:
    keys = list(given_tensors)
    random.shuffle(keys)  # type: ignore[attr-defined]
    shuffled = {key: np.asfortranarray(given_tensors[key]).reshape(given_tensors[key].shape) for key in keys}
    assert to_bytes(shuffled) == to_bytes(given_tensors)
    assert digest(shuffled) == digest(given_tensors)


def test_digest_is_the_documented_one() -> None:
    header = b'[["a","float32",[2]]]'
    wanted = hashlib.sha256(b"tensors v1 21 " + header + b"\x00\x00\x80?\x00\x00\x00@").hexdigest()
    assert len(header) == 21
    assert digest({"a": np.array([1.0, 2.0], np.float32)}) == wanted
    assert digest({"a": np.array([1.0, 2.0], ">f4")}) == wanted  # big-endian memory, the same values


def test_digest_does_not_depend_on_the_container() -> None:
    content = save(good(), metadata={"format": "np", "note": "another header"})
    assert content != to_bytes(good())
    assert digest(from_bytes(content)) == digest(good())


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros(2, np.float64)},
        {"a": np.zeros((2, 1), np.float32)},
        {"b": np.zeros(2, np.float32)},
        {"a": np.array([0.0, -0.0], np.float32)},
        {"a": np.array([0, 1e-45], np.float32)},
        {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)},
        {},
    ],
)
def test_digest_tells_names_dtypes_shapes_and_values_apart(other: dict[str, Array]) -> None:
    assert digest(other) != digest({"a": np.zeros(2, np.float32)})


def test_every_changed_byte_is_refused_or_changes_the_digest() -> None:
    content, wanted = to_bytes(good()), digest(good())
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        try:
            assert digest(from_bytes(bytes(changed))) != wanted
        except WeightsRefused:
            continue


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x00" * 8, b"\xff" * 64, to_bytes(good())[:-1], to_bytes(good()) + b" "]
)
def test_bytes_that_are_no_tensors_are_refused(content: bytes) -> None:
    with pytest.raises(WeightsRefused, match="not tensors"):
        from_bytes(content)


@pytest.mark.parametrize(
    "array", [np.zeros(2, np.float16), np.zeros(2, object), np.array(["a"]), np.zeros(2, np.complex64)]
)
def test_dtypes_outside_the_list_are_refused(array: Array) -> None:
    for act in (digest, to_bytes):
        with pytest.raises(WeightsRefused, match="Send an array of float32, float64, int64, uint32, int8"):
            act({"a": array})


def test_half_precision_in_a_file_is_refused() -> None:
    with pytest.raises(WeightsRefused, match="float16"):
        from_bytes(save({"a": np.zeros(2, np.float16)}))


def test_planned_tensors_pass() -> None:
    check_tensors(good(), PLANNED, finite=True)
    check_tensors({}, {}, finite=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer.bias": None}, r"missing: 'layer\.bias'"),
        ({"extra": np.zeros(1)}, "not in it: 'extra'"),
        ({"layer.bias": np.zeros(3, np.float32)}, r"'layer\.bias' is float32 \[3\]; the plan has float32 \[2\]"),
        ({"layer.bias": np.zeros(2)}, r"is float64 \[2\]; the plan has float32 \[2\]"),
        ({"layer.bias": [0.0, 0.0]}, "is list"),
        ({"layer.bias": np.array([0, np.nan], np.float32)}, "not finite"),
        ({"layer.bias": np.array([0, -np.inf], np.float32)}, "not finite"),
    ],
)
def test_other_tensors_are_refused_by_name(changes: dict[str, Array | None], message: str) -> None:
    tensors = {name: array for name, array in {**good(), **changes}.items() if array is not None}
    with pytest.raises(WeightsRefused, match=message):
        check_tensors(tensors, PLANNED, finite=True)


def test_a_release_is_never_refused_for_its_values() -> None:
    overflowed = {**good(), "layer.bias": np.array([np.nan, np.inf], np.float32)}
    check_tensors(overflowed, PLANNED, finite=False)
    assert digest(from_bytes(to_bytes(overflowed))) == digest(overflowed)


def test_a_message_stays_short_whatever_names_are_sent() -> None:
    many = {f"{number}{'x' * 10_000}": np.zeros(1) for number in range(1000)}
    with pytest.raises(WeightsRefused) as caught:
        check_tensors(many, PLANNED, finite=True)
    assert len(caught.value.public_message) < 800
