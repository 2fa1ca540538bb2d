"""Bytes that are no call, or that do something while they are read. Most need no account at all."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import psutil
import pytest
import syft.serde.recursive as recursive
import syft.serde.recursive_primitives as primitives
from syft.client.api import SignedSyftAPICall, SyftAPICall
from syft.serde.serialize import _serialize
from syft.types.blob_storage import CreateBlobStorageEntry
from syft.types.syft_object_registry import SyftObjectRegistry
from syft.types.uid import UID

from tests.attacks.guard.attacker import RESEARCHER, Refusal, Site, wait_for
from tests.factories import DatasiteProcess


def blob_of(name: str, content: bytes = b"", version: int = 1) -> bytes:
    """An object of any name, as bytes."""
    message = recursive.recursive_scheme.new_message()
    message.canonicalName, message.version = name, version
    message.init("nonrecursiveBlob", 1)[0] = content
    return bytes(message.to_bytes())


def command(marker: Path, name: str = "_GenericAlias") -> bytes:
    """A type alias whose origin is `os.system`: rebuilding it runs a command."""
    parts = {"path": "os.system", "command": f"touch {marker}"}
    return blob_of(name, bytes(_serialize(parts, to_bytes=True)))


def signed_with(site: Site, who: str, inner: bytes) -> bytes:
    """A rightly signed call one of whose arguments is `inner`."""
    placeholder = "PLACEHOLDER" + "x" * 40
    call = SyftAPICall(server_uid=site.server_id(), path="action.exists", args=[], kwargs={"uid": placeholder})
    fields = {
        name: bytes(_serialize(getattr(call, name), to_bytes=True))
        for name in ("server_uid", "path", "args", "id", "blocking")
    }
    pairs = primitives.kv_iterable_schema.new_message()
    pairs.init("keys", 1)[0] = bytes(_serialize("uid", to_bytes=True))
    pairs.init("values", 1).init(0, 1)[0] = inner
    fields["kwargs"] = blob_of("dict", bytes(pairs.to_bytes()))
    message = recursive.recursive_scheme.new_message()
    message.canonicalName, message.version = "SyftAPICall", 1
    names, data = message.init("fieldsName", len(fields)), message.init("fieldsData", len(fields))
    for index, (name, value) in enumerate(sorted(fields.items())):
        names[index] = name
        data.init(index, 1)[0] = value
    signed = site.key(who).signing_key.sign(bytes(message.to_bytes()))
    envelope = SignedSyftAPICall(
        credentials=site.key(who).verify_key, serialized_message=signed.message, signature=signed.signature
    )
    return bytes(_serialize(envelope, to_bytes=True))


def test_stranger_runs_no_command_by_bytes_that_name_a_type(site: Site, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    answer = site.http("POST", "/api_call", data=command(marker))
    assert marker.exists() is site.is_stock
    assert answer.status_code == (500 if site.is_stock else 400)


@pytest.mark.parametrize("who", ["nobody", RESEARCHER])
def test_signed_call_runs_no_command_by_an_argument(site: Site, tmp_path: Path, who: str) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(Refusal):
        site.send(signed_with(site, who, command(marker)))
    assert marker.exists() is site.is_stock


def test_uploaded_bytes_run_no_command_when_they_are_read(site: Site, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = command(marker)
    entry = CreateBlobStorageEntry(id=UID(), file_size=len(data))
    site.call(RESEARCHER, "blob_storage.allocate", obj=entry)
    assert site.succeeds(RESEARCHER, "blob_storage.write_to_disk", uid=entry.id, data=data) is site.is_stock


def test_only_listed_classes_are_rebuilt() -> None:
    """Walk every class that PySyft can rebuild: those that are not on the list are refused before anything is built."""
    from datasites.door.syft.guard import CLASSES, Malformed, bound_deserialization, read_strictly

    bound_deserialization()
    registered = SyftObjectRegistry.__object_serialization_registry__
    assert len(registered) > 300
    assert set(registered) >= CLASSES
    for name in set(registered) - CLASSES:
        with pytest.raises(Malformed, match="may not carry"):
            read_strictly(blob_of(name))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"GET / HTTP/1.0",
        os.urandom(4096),
        b"\xff" * 4096,
        struct.pack("<II", 0, 1 << 28) + b"\0" * 64,  # a header that promises 2 GiB
        struct.pack("<II", (1 << 32) - 1, 1) + b"\0" * 64,  # a header that promises 2^32 segments
        blob_of("nobody knows this class"),
        blob_of("SignedSyftAPICall"),
        blob_of("SyftAPICall"),
    ],
    ids=["empty", "zero", "text", "random", "ones", "long", "segments", "unknown", "envelope", "unsigned"],
)
def test_malformed_bytes_get_a_clean_refusal(ours: Site, body: bytes) -> None:
    answer = ours.http("POST", "/api_call", data=body)
    assert answer.status_code == 400
    assert answer.text in ("These bytes are not a signed call.\n", "The signature of this call is wrong.\n")
    assert ours.http("GET", "/metadata").status_code == 200


def test_each_cut_of_a_right_call_is_refused_cleanly(ours: Site) -> None:
    data = ours.signed(RESEARCHER, "dataset.get_all")
    for length in range(0, len(data), 61):
        assert ours.http("POST", "/api_call", data=data[:length]).status_code == 400


def test_changed_call_is_refused(ours: Site) -> None:
    data = bytearray(ours.signed(RESEARCHER, "dataset.get_all"))
    at = data.index(b"dataset.get_all")
    data[at : at + 15] = b"dataset.get_alx"
    answer = ours.http("POST", "/api_call", data=bytes(data))
    assert (answer.status_code, answer.text) == (400, "The signature of this call is wrong.\n")


def nested(depth: int) -> bytes:
    """A list in a list in a list."""
    inner = bytes(_serialize(1, to_bytes=True))
    for _ in range(depth):
        outer = primitives.iterable_schema.new_message()
        outer.init("values", 1).init(0, 1)[0] = inner
        inner = blob_of("list", bytes(outer.to_bytes()))
    return inner


def wide(items: int) -> bytes:
    """A list of many small numbers."""
    return bytes(_serialize([1] * items, to_bytes=True))


def tensor_of(size: int, dtype: str = "float64", content: bytes = b"") -> bytes:
    """A tensor that says it takes `size` bytes."""
    return blob_of("torch_tensor", bytes(_serialize((content, size, dtype), to_bytes=True)))


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (nested(70), "too large or too deep"),
        (wide(22_000), "too large or too deep"),
        (tensor_of(1 << 40), "too large"),
        (tensor_of(-1), "too large"),
        (tensor_of(8, "O"), "not of numbers"),
        (tensor_of(8, "U100000000"), "not of numbers"),
        (tensor_of(64, content=b"\0" * 64), "not a call"),
    ],
    ids=["deep", "wide", "huge", "negative", "objects", "texts", "broken"],
)
def test_bombs_of_a_researcher_are_refused_in_bounded_memory(
    ours: Site, datasite_process: DatasiteProcess, inner: bytes, words: str
) -> None:
    assert datasite_process.process is not None
    process = psutil.Process(datasite_process.process.pid)
    before, began = process.memory_info().rss, time.monotonic()
    with pytest.raises(Refusal, match=words):
        ours.send(signed_with(ours, RESEARCHER, inner))
    assert process.memory_info().rss - before < 300 << 20
    assert time.monotonic() - began < 60


def test_marker_is_a_sound_witness(stock: Site, tmp_path: Path) -> None:
    """The witness of these tests is a file; the stock server can write it."""
    marker = tmp_path / "witness"
    stock.http("POST", "/api_call", data=command(marker))
    assert wait_for(marker.exists)
