"""Writes calls in PySyft's form: plain values, arrays and the few objects that a researcher's calls are made of.

What PySyft's own client sends is what is written here, field for field (`tests/policies/wire/test_calls.py` compares
them), so that any datasite answers it, and a machine that asks needs no PySyft. Answers are read by
`researcher.answers`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from policies.python_trees import parsed
from policies.wire.capnp import write_named, write_pairs, write_values

CODEC = "zstd"  # PySyft's, with which arrays travel
DTYPES = frozenset("int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())
# PySyft's own output policy counts nothing that holds; the ledger counts releases. It must be given all the same.
RELEASES = 1_000_000


@dataclass(frozen=True)
class Identifier:
    """PySyft's identifier of an object, in hex; a new one where none is given."""

    value: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class TypeName:
    """A class by the name that PySyft knows it by, which is sent in its place."""

    name: str


@dataclass(frozen=True)
class Object:
    """An object of PySyft's: its class's name, and its fields."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """A datasite as PySyft names it: identifier in hex, name, and the key of its answers, 32 bytes."""

    identifier: str
    name: str
    verify_key: bytes


def write(value: Any) -> bytes:
    """The bytes of None, a bool, int, float, str, bytes, list, tuple, dict or numeric array, or of a class above.

    Raises `TypeError` for any other.
    """
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise TypeError(f"A call carries no {type(value).__name__}.")
    return writer(value)


def write_call(server: Server, path: str, arguments: Mapping[str, Any]) -> bytes:
    """The message of a call, to be signed. Each has an identifier of its own, so that none is answered twice."""
    fields = {"args": [], "blocking": True, "kwargs": dict(arguments), "path": path}
    return write(_kept(Object("SyftAPICall", {**fields, "server_uid": Identifier(server.identifier)}), Identifier()))


def write_envelope(key: bytes, message: bytes, signature: bytes) -> bytes:
    """A signed call, as `policies.wire.envelopes.read_envelope` reads it."""
    parts = {"credentials": _verify_key(key), "serialized_message": message, "signature": signature}
    return write(Object("SignedSyftAPICall", parts))


def submission(server: Server, source: str, asset: str) -> Object:
    """A code request for `source`, one function, whose `records` are the dataset version `asset`.

    Its other parameters are the researcher's to give at each call: `weights`, a dict, and `round`, an int.
    """
    function = next(node for node in parsed(source).body if isinstance(node, ast.FunctionDef))
    parameters = [parameter.arg for parameter in function.args.args]
    rules = {
        "records": _kept(
            Object("Matches", {"kw": "records", "requires_input": True, "val": Identifier(asset)}), Identifier()
        ),
        "weights": _owned("weights", "dict"),
        "round": _owned("round", "int"),
    }
    bound = {server: {name: rules[name] for name in parameters}}
    return _kept(
        Object(
            "SubmitUserCode",
            {
                "code": source,
                "func_name": function.name,
                "input_kwargs": parameters,
                "input_policy_init_kwargs": bound,
                "input_policy_type": TypeName("MixedInputPolicy"),
                "output_policy_init_kwargs": {"limit": RELEASES, "id": Identifier()},
                "output_policy_type": TypeName("OutputPolicyExecuteCount"),
                "signature": _Signature(tuple(parameters)),
                "worker_pool_name": None,
            },
        ),
        None,
    )


@dataclass(frozen=True)
class _Key:
    """The bytes of a key that checks signatures."""

    value: bytes


@dataclass(frozen=True)
class _Signature:
    """A function's parameters, which may all be given by position or by name."""

    parameters: tuple[str, ...]


def _kept(made: Object, identifier: Identifier | None) -> Object:
    """The object with what PySyft keeps beside every object of its own."""
    unset = ("created_date", "updated_date", "deleted_date", "syft_client_verify_key", "syft_server_location")
    return Object(made.name, {**made.fields, **dict.fromkeys(unset), "id": identifier})


def _owned(name: str, kind: str) -> Object:
    return _kept(Object("UserOwned", {"kw": name, "requires_input": True, "type": TypeName(kind)}), Identifier())


def _verify_key(key: bytes) -> Object:
    return Object("SyftVerifyKey", {"verify_key": _Key(key)})


def _object(value: Object) -> bytes:
    return write_named(value.name, fields=[(name, write(value.fields[name])) for name in sorted(value.fields)])


def _server(value: Server) -> bytes:
    parts = {"server_id": Identifier(value.identifier), "server_name": value.name}
    return _object(Object("ServerIdentity", {**parts, "verify_key": _verify_key(value.verify_key)}))


def _signature(value: _Signature) -> bytes:
    """PySyft writes `inspect`'s own objects; position or name is kind 1 of a parameter, and none has a default."""
    nothing, kind = TypeName("inspect_empty"), Object("inspect_ParameterKind", {"value": 1})
    common = {"_annotation": nothing, "_default": nothing, "_kind": kind}
    parameters = [Object("inspect_Parameter", {**common, "_name": name}) for name in value.parameters]
    return write_named("inspect_Signature", blob=write({"parameters": parameters, "return_annotation": nothing}))


def _array(value: np.ndarray[Any, Any]) -> bytes:
    """As a torch tensor: every datasite takes weights so."""
    import pyarrow as pa

    if value.dtype.name not in DTYPES:
        raise TypeError(f"A call carries no arrays of {value.dtype.name}.")
    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(np.array(value, order="C")), sink)
    buffer = sink.getvalue()
    packed = pa.compress(buffer, asbytes=True, codec=CODEC)
    return write_named("torch_tensor", blob=write((packed, buffer.size, value.dtype.name)))


_WRITERS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda _: write_named("NoneType", blob=b"1"),
    bool: lambda value: write_named("bool", blob=b"1" if value else b"0"),
    int: lambda value: write_named("int", blob=value.to_bytes((value.bit_length() + 7) // 8 + 1, "big", signed=True)),
    float: lambda value: write_named("float", blob=value.hex().encode()),
    str: lambda value: write_named("str", blob=value.encode()),
    bytes: lambda value: write_named("bytes", blob=value),
    list: lambda value: write_named("list", blob=write_values([write(item) for item in value])),
    tuple: lambda value: write_named("tuple", blob=write_values([write(item) for item in value])),
    dict: lambda value: write_named("dict", blob=write_pairs([(write(k), write(v)) for k, v in value.items()])),
    np.ndarray: _array,
    Identifier: lambda value: _object(Object("UID", {"value": UUID(value.value).bytes})),
    TypeName: lambda value: write_named("type", blob=f"{value.name}:1".encode()),
    Object: _object,
    Server: _server,
    _Key: lambda value: write_named("nacl_verify_key", blob=value.value),
    _Signature: _signature,
}
