"""Small messages that unpack to much: each account and all together have so much memory, and no more."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from syft.client.api import SyftAPICall
from syft.serde.serialize import _serialize
from syft.service.user.user_roles import ServiceRole
from syft.types.uid import UID

from datasites.door.memory import Memory
from datasites.door.syft.guard import (
    LARGEST_SHORT,
    RESEARCHER_PATHS,
    TENSOR_BYTES,
    Malformed,
    Refused,
    bound_deserialization,
    check_path,
    holding,
    read_strictly,
)
from policies.graph.graphs import MAX_PARAMETERS

SERVER = UID()
bound_deserialization()


def message(path: str, **kwargs: Any) -> bytes:
    """A call as its signer sends it."""
    return bytes(_serialize(SyftAPICall(server_uid=SERVER, path=path, args=[], kwargs=kwargs), to_bytes=True))


def test_the_largest_model_of_any_plan_may_be_sent() -> None:
    weights = {"all": torch.zeros(MAX_PARAMETERS, dtype=torch.float64)}
    read = read_strictly(message("code.call", weights=weights))
    assert read.kwargs["weights"]["all"].shape == (MAX_PARAMETERS,)


def test_a_message_unpacks_to_no_more_than_the_weights_of_any_plan() -> None:
    """200 kB that unpack to 64 MiB, in one tensor and in many."""
    for parts in (1, 64):
        bomb = message(
            "code.call", weights={str(n): torch.zeros((64 << 20) // 8 // parts).double() for n in range(parts)}
        )
        assert len(bomb) < 1 << 20
        with pytest.raises(Malformed, match="too large"):
            read_strictly(bomb)
    assert TENSOR_BYTES < 50 << 20


def test_calls_of_one_account_at_once_leave_room_to_others() -> None:
    """Eight calls of 19 kB at once, which unpack to 40 MB each: three of them have room in half of 512 MiB."""
    bomb = message("code.call", weights={"all": torch.zeros(MAX_PARAMETERS, dtype=torch.float64)})
    memory, said, done = Memory(512 << 20), [], threading.Barrier(8)

    def one() -> None:
        with holding(memory, "a"):
            try:
                read = read_strictly(bomb)
                said.append("read")
            except Refused as refusal:
                read = None
                said.append(refusal.public_message)
            done.wait(60)  # it is answered, while the others are
            del read

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("read") == 3
    assert said.count("Too much is being sent at once. Try again in a moment.") == 5
    assert memory.in_use == 0
    with holding(memory, "a"), holding(memory, "b"):
        assert read_strictly(bomb).path == "code.call"


def test_levels_that_copy_what_is_inside_are_paid_for() -> None:
    """A message of honest depth takes 7 times its size while it is read; 14 levels around it take more."""
    inner: Any = b"\0" * (2 << 20)
    assert read_strictly(bytes(_serialize([[inner]], to_bytes=True))) == [[inner]]
    for _ in range(14):
        inner = [inner]
    with pytest.raises(Malformed, match="too large or too deep"):
        read_strictly(bytes(_serialize(inner, to_bytes=True)))


@pytest.mark.parametrize(
    ("role", "path"),
    [
        (ServiceRole.DATA_SCIENTIST, "user.create"),
        (ServiceRole.ADMIN, "user.update"),
        (ServiceRole.DATA_SCIENTIST, "request.apply"),
        (ServiceRole.ADMIN, "code.call"),
        (ServiceRole.ADMIN, "action.set"),
    ],
)
def test_what_an_account_may_not_call_is_refused_before_its_arguments_are_rebuilt(
    role: ServiceRole, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasites.door.syft import guard

    def rebuilt(*_: Any, **__: Any) -> Any:
        raise AssertionError("an argument was rebuilt")

    monkeypatch.setattr(guard, "_deserialize", rebuilt)
    entry = guard.Entry.__new__(guard.Entry)
    with pytest.raises(Refused, match=f"{role.name} may not call {path}"):
        entry._admitted(message(path, weights={"all": torch.zeros(100)}), None, role)
    with pytest.raises(Refused, match="not a call"):
        entry._admitted(bytes(_serialize([1], to_bytes=True)), None, role)


@pytest.mark.parametrize(
    "path",
    sorted(RESEARCHER_PATHS - {"action.set", "blob_storage.write_to_disk", "code.call", "datasite.keep_weights"}),
)
def test_calls_that_carry_no_weights_are_short(path: str) -> None:
    check_path(message(path, a=b"\0" * 1000), ServiceRole.DATA_SCIENTIST)
    with pytest.raises(Refused, match="too large"):
        check_path(message(path, a=b"\0" * LARGEST_SHORT), ServiceRole.DATA_SCIENTIST)
