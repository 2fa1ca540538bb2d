"""What we write of a call is what PySyft's own client sends, and what the datasite's guard reads."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import syft
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from syft.client.api import ServerIdentity, SyftAPICall
from syft.serde.serialize import _serialize
from syft.server.credentials import SyftSigningKey
from syft.service.code.user_code import SubmitUserCode
from syft.service.policy.policy import Matches, MixedInputPolicy, OutputPolicyExecuteCount, UserOwned
from syft.types.uid import UID

from datasites.door.syft.guard import open_envelope, read_strictly
from policies.wire import capnp
from policies.wire.calls import RELEASES, Identifier, Object, Server, submission, write, write_call, write_envelope
from policies.wire.capnp import read_named, read_pairs, read_values
from policies.wire.envelopes import read_envelope, read_path
from researcher.answers import read

SOURCE = "def flu_2026(records, weights, round):\n    return train(records, weights, round)\n"
ASSET = "0123456789abcdef" * 2
KEY = SyftSigningKey.from_string("17" * 32)
HERE = UID()
SERVER = Server(HERE.to_string(), "general hospital", bytes(KEY.verify_key.verify_key))


def tree(blob: bytes) -> Any:
    """What bytes say, level by level. Identifiers are random, so they are left out."""
    message = read_named(blob)
    content = b"".join(message.nonrecursiveBlob)
    name: Any = (message.canonicalName, message.version)
    if name[0] == "UID":
        return name
    if message.fieldsName:
        return name, [
            (field, tree(b"".join(data))) for field, data in zip(message.fieldsName, message.fieldsData, strict=True)
        ]
    if name[0] in ("list", "tuple"):
        return name, [tree(b"".join(value)) for value in read_values(content).values]
    if name[0] == "dict":
        pairs = read_pairs(content)
        return name, [(tree(key), tree(b"".join(value))) for key, value in zip(pairs.keys, pairs.values, strict=True)]
    if name[0] in ("torch_tensor", "inspect_Signature"):
        return name, tree(content)
    return name, content


def stock_submission(parameters: list[str]) -> SubmitUserCode:
    rules = {
        "records": Matches(kw="records", val=UID.from_string(ASSET)),
        "weights": UserOwned(kw="weights", type=dict),
        "round": UserOwned(kw="round", type=int),
    }
    here = ServerIdentity(server_name=SERVER.name, server_id=HERE, verify_key=KEY.verify_key)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return SubmitUserCode(
        code=SOURCE,
        func_name="flu_2026",
        signature=inspect.Signature([inspect.Parameter(name, kind) for name in parameters]),
        input_policy_type=MixedInputPolicy,
        input_policy_init_kwargs={here: {name: rules[name] for name in parameters}},
        output_policy_type=OutputPolicyExecuteCount,
        output_policy_init_kwargs=OutputPolicyExecuteCount(limit=RELEASES).init_kwargs,
        input_kwargs=parameters,
    )


def stock_call(path: str, **arguments: Any) -> bytes:
    call = SyftAPICall(server_uid=HERE, path=path, args=[], kwargs=arguments, blocking=True)
    return bytes(_serialize(call.sign(KEY), to_bytes=True))


def test_a_request_is_what_pysyfts_client_sends() -> None:
    path, purpose = "code.request_code_execution", "Forecast the flu: ε = 2"
    stock = stock_call(path, code=stock_submission(["records", "weights", "round"]), reason=purpose)
    ours = write_call(SERVER, path, {"code": submission(SERVER, SOURCE, ASSET), "reason": purpose})
    assert tree(ours) == tree(read_envelope(stock).message)


def test_a_call_with_weights_is_what_pysyfts_client_sends() -> None:
    weights = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": np.array(0.5)}
    plain = {"round": 3, "plain": True, "least": -129, "rate": 0.1, "none": None, "names": ["a", "b"], "pair": (1, b"")}
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    stock = stock_call("code.call", uid=UID(), weights=tensors, **plain)
    ours = write_call(SERVER, "code.call", {"uid": Identifier(), "weights": weights, **plain})
    assert tree(ours) == tree(read_envelope(stock).message)


def test_the_guard_opens_and_reads_what_was_signed() -> None:
    key = Ed25519PrivateKey.generate()
    message = write_call(SERVER, "datasite.describe", {"weights": {"w": np.ones((2, 2), np.float32)}})
    public = key.public_key().public_bytes_raw()
    signer, opened = open_envelope(write_envelope(public, message, key.sign(message)))
    assert bytes(signer.verify_key) == public
    assert (opened, read_path(opened)) == (message, "datasite.describe")
    call = read_strictly(opened)
    assert isinstance(call, SyftAPICall)
    assert call.server_uid == HERE
    assert torch.equal(call.kwargs["weights"]["w"], torch.ones(2, 2))


def test_pysyft_reads_a_request_as_the_object_that_it_is() -> None:
    read_back = read_strictly(write(submission(SERVER, SOURCE, ASSET)))
    assert isinstance(read_back, SubmitUserCode)
    assert list(read_back.signature.parameters) == ["records", "weights", "round"]
    ((server, rules),) = read_back.input_policy_init_kwargs.items()
    assert server.verify_key == KEY.verify_key
    assert rules["records"].val == UID.from_string(ASSET)
    assert rules["weights"].type is dict


def test_two_calls_are_never_the_same_bytes() -> None:
    """A datasite answers a call that changes something once, by its bytes."""
    assert write_call(SERVER, "datasite.withdraw", {"code": ASSET}) != write_call(
        SERVER, "datasite.withdraw", {"code": ASSET}
    )


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    st.text(st.characters(categories=["L", "N", "Zs"]), max_size=40),
    st.binary(max_size=40),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.sampled_from("abcd"), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_any_plain_value_is_read_back(value: Any) -> None:
    blob = write(value)
    assert syft.deserialize(blob, from_bytes=True) == value
    assert read(blob, largest=0) == value


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
@pytest.mark.parametrize("order", ["as it lies", "turned round"])
def test_arrays_are_read_back_whatever_their_shape_and_order(dtype: str, shape: tuple[int, ...], order: str) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    array = array.T if order == "turned round" else array
    for given_back in (read(write(array), largest=1 << 20), syft.deserialize(write(array), from_bytes=True).numpy()):
        assert given_back.dtype == array.dtype
        assert given_back.shape == array.shape
        assert np.array_equal(given_back, array)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), np.array([True]), np.float32(1.0), 1 + 2j])
def test_what_no_call_carries_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match="A call carries no"):
        write(value)


def test_large_contents_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capnp, "PIECE", 10)
    blob = write([b"0123456789", b"0123456789a", b""])
    assert len(read_named(blob).nonrecursiveBlob) > 3
    assert syft.deserialize(blob, from_bytes=True) == [b"0123456789", b"0123456789a", b""]


def test_fields_are_written_in_order_of_their_names() -> None:
    """As PySyft writes them; a digest over an object counts on it."""
    assert read_named(write(Object("A", {"b": 1, "a": 2}))).fieldsName == ["a", "b"]
