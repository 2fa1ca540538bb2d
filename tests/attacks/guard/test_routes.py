"""What a stranger reaches over HTTP, what a login gives away, and what lies in the directory."""

from __future__ import annotations

import math
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from syft.protocol.data_protocol import get_data_protocol
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize
from syft.service.user.user import UserCreate
from syft.service.user.user_roles import ServiceRole

from tests import loops
from tests.attacks.guard.attacker import OTHER, OWNER, PASSWORD, RESEARCHER, Refusal, Site
from tests.factories import DatasiteProcess


def test_nobody_signs_up_as_the_owner(site: Site) -> None:
    """PySyft takes the role from the request, where an owner lets people sign up."""
    if site.is_stock:
        site.call(OWNER, "settings.allow_guest_signup", enable=True)
    account = UserCreate(
        email="new-owner@evil.example",
        name="Eve",
        password=PASSWORD,
        password_verify=PASSWORD,
        role=ServiceRole.ADMIN,
    )
    site.http("POST", "/register", data=bytes(_serialize(account, to_bytes=True)))
    try:
        role = site.login("new-owner@evil.example").role
    except Refusal:
        role = None
    assert role is (ServiceRole.ADMIN if site.is_stock else None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/register"),
        ("POST", "/forgot_password"),
        ("POST", "/reset_password"),
        ("GET", "/metadata_capnp"),
        ("GET", "/stream/abc/def/"),
        ("PUT", "/stream/abc/def/"),
        ("GET", "/"),
        ("GET", ""),
        ("HEAD", "/metadata"),
        ("OPTIONS", "/api_call"),
        ("GET", "/api_call"),
        ("GET", "/login"),
        ("GET", "/metadata/"),
        ("GET", "//metadata"),
        ("GET", "/%2e%2e/metadata"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
def test_routes_that_are_not_listed_do_not_exist(ours: Site, method: str, path: str) -> None:
    answer = ours.http(method, path)
    assert answer.status_code == 404
    assert answer.text in ("", "Not found.\n")


def test_metadata_tells_nothing_but_who_this_is(ours: Site) -> None:
    told = ours.http("GET", "/metadata").json()
    assert told["name"] == "Test Hospital"
    assert "@" not in str(told)
    assert str(ours.directory) not in str(told)


def test_endpoints_are_told_to_accounts_in_use_alone(site: Site) -> None:
    stranger, protocol = str(site.key("nobody").verify_key), get_data_protocol().latest_version
    answer = site.http("GET", "/api", params={"verify_key": stranger, "communication_protocol": protocol})
    told = answer.status_code == 200 and len(answer.content) > 1000
    assert told is site.is_stock


@pytest.mark.parametrize("key", ["", "0", "zz" * 32, "00" * 32, "00" * 5000, "é"])
def test_endpoints_of_a_wrong_key_are_not_found(ours: Site, key: str) -> None:
    assert ours.http("GET", "/api", params={"verify_key": key}).status_code == 404


@pytest.mark.parametrize("who", [RESEARCHER, OWNER])
def test_endpoints_are_those_that_the_role_may_call(ours: Site, who: str) -> None:
    from datasites.door.syft.elsewhere import elsewhere
    from datasites.door.syft.guard import PATHS

    role = ServiceRole.ADMIN if who == OWNER else ServiceRole.DATA_SCIENTIST
    answer = ours.http("GET", "/api", params={"verify_key": str(ours.key(who).verify_key)})
    api = _deserialize(answer.content, from_bytes=True)
    shown = {each.service_path for each in api.endpoints.values()}
    assert PATHS[role] <= shown <= PATHS[role] | elsewhere(role).keys()  # the latter end in a sentence
    assert api.lib_endpoints == {}
    assert len(answer.content) < 300_000  # every method's own signature, as PySyft writes it


@pytest.mark.parametrize("email", ["nobody@university.example", OTHER, OWNER, "", "x" * 3000, "\0", "a\nb"])
def test_failed_login_says_one_thing_and_gives_no_key(ours: Site, email: str) -> None:
    answer = ours.http("POST", "/login", json={"email": email, "password": "not the password"})
    text = b"Wrong e-mail or password, or the account is closed."
    assert answer.status_code == 200
    assert text in answer.content
    assert b"signing_key" not in answer.content
    with pytest.raises(Refusal, match="Wrong e-mail or password"):
        ours.login(email, "not the password")


def test_stock_login_tells_which_accounts_exist(stock: Site) -> None:
    messages = set()
    for email in ("nobody@university.example", OTHER):
        with pytest.raises(Refusal) as refusal:
            stock.login(email, "not the password")
        messages.add(refusal.value.text)
    assert len(messages) == 2


def test_unknown_account_takes_as_long_as_a_wrong_password(ours: Site) -> None:
    took = dict.fromkeys(("unknown@university.example", OTHER), math.inf)
    for _ in range(3):  # the least of them: other work on the machine makes some of them slow
        for email in took:
            began = time.monotonic()
            ours.http("POST", "/login", json={"email": email, "password": "no"})
            took[email] = min(took[email], time.monotonic() - began)
    assert min(took.values()) > 0.5 * max(took.values())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"email": 1, "password": []}', b"\xff" * 100])
def test_malformed_login_is_a_failed_one(ours: Site, body: bytes) -> None:
    answer = ours.http("POST", "/login", data=body)
    assert answer.status_code == 200
    assert b"Wrong e-mail" in answer.content or b"Too many" in answer.content


def test_password_is_not_guessed_by_many_tries_at_once(site: Site) -> None:
    """24 tries at once at a made-up account: a stock server compares each, ours compares 5 and the rest must wait."""
    email = "victim@university.example"

    def attempt(number: int) -> str:
        try:
            site.login(email, f"guess {number}")
        except Refusal as refusal:
            return refusal.text
        return "in"

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(attempt, range(24)))
    waits = [each for each in answers if each.startswith("Too many wrong passwords. Try again in ")]
    assert len(waits) >= 16 if not site.is_stock else not waits


def test_closed_account_neither_logs_in_nor_signs(ours: Site, datasite_process: DatasiteProcess) -> None:
    call = ours.signed(OTHER, "dataset.get_all")
    assert ours.send(call)
    datasite_process.cli("researchers", "disable", OTHER)
    try:
        with pytest.raises(Refusal, match="account is closed"):
            ours.login(OTHER)
        with pytest.raises(Refusal, match="no account in use") as refusal:
            ours.send(ours.signed(OTHER, "dataset.get_all"))
        assert refusal.value.status == 401
    finally:
        datasite_process.cli("researchers", "enable", OTHER)
        del ours.keys[OTHER]  # it ended with the account
    assert ours.login(OTHER).role is ServiceRole.DATA_SCIENTIST


def test_body_larger_than_the_bound_is_not_read(ours: Site) -> None:
    """65 MiB of zeros to a bound of 64: refused with the bound, and the connection may end before all is sent."""
    import requests

    try:
        answer = ours.http("POST", "/api_call", data=b"\0" * (65 << 20))
        assert (answer.status_code, answer.text) == (413, f"The body is larger than {64 << 20} bytes.\n")
    except requests.ConnectionError:
        pass
    assert ours.http("POST", "/login", data=b"x" * 4097).status_code == 413
    assert ours.http("GET", "/metadata", data=b"x").status_code == 413


def test_too_much_at_once_is_asked_to_come_back() -> None:
    """Bodies of 40 bytes with 100 held at most: the third of three that never end is refused, and room comes back."""
    import asyncio
    from typing import Any

    from datasites.door.app import Gate
    from datasites.door.memory import BODIES, CALLS, Memory

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    memory = Memory(200, free={BODIES: 0, CALLS: 0})  # half of it for bodies, a quarter for those of one address
    gate = Gate(app, 64, memory=memory)

    async def one(address: str) -> int:
        statuses: list[int] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * 40, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/api/v2/api_call", "headers": [], "client": (address, 1)}
        await gate(scope, receive, send)
        return statuses[0]

    async def several(*addresses: str) -> list[int]:
        return await asyncio.gather(*(one(address) for address in addresses))

    assert sorted(loops.run(several("192.0.2.1", "192.0.2.2", "192.0.2.3"))) == [200, 200, 503]
    assert sorted(loops.run(several("192.0.2.1", "192.0.2.2", "192.0.2.3"))) == [200, 200, 503]  # all was given back
    assert sorted(loops.run(several("192.0.2.1", "192.0.2.1"))) == [200, 503]
    assert memory.in_use == 0


def test_slow_body_is_given_up() -> None:
    import asyncio
    from typing import Any

    from datasites.door.app import Gate
    from datasites.door.connections import Bounded, Connections
    from datasites.door.memory import Memory

    statuses: list[int] = []

    async def receive() -> Any:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app was called")

    gate = Gate(never, 1 << 20, memory=Memory(1 << 30))
    app = Bounded(gate, Connections(most=8, most_of_one=8, seconds=1), rate=1000, grace=0.2)
    scope = {"type": "http", "method": "POST", "path": "/api/v2/api_call", "headers": []}
    loops.run(app(scope, receive, send))
    assert statuses == [408]


def test_many_calls_at_once_are_all_answered(ours: Site) -> None:
    good = [ours.signed(RESEARCHER, "dataset.get_all") for _ in range(20)]
    ours.key(OTHER)

    def one(number: int) -> int:
        data = good[number // 2] if number % 2 else b"\0" * 1000
        return ours.http("POST", "/api_call", data=data).status_code

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(one, range(40))) == [200] * 20 + [400] * 20


def test_broken_connections_leave_the_server_well(ours: Site) -> None:
    host, port = ours.url.removeprefix("http://").split(":")
    for text in (b"POST /api/v2/api_call HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc", b"\0\1\2", b"GET / HT"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(text)
    assert ours.http("GET", "/metadata").status_code == 200


def test_nothing_in_the_directory_is_readable_by_others(site: Site) -> None:
    """The database holds every account's private key."""
    if not site.is_stock:
        assert stat.S_IMODE(site.directory.stat().st_mode) == 0o700
    written_by_tests = {"serve.out", "out.log"}
    open_to_others = [
        path.name
        for path in site.directory.rglob("*")
        if path.name not in written_by_tests and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert ("datasite.db" in open_to_others) if site.is_stock else not open_to_others


def test_there_is_no_account_but_the_owners_and_those_that_were_added(
    ours: Site, datasite_process: DatasiteProcess
) -> None:
    for email in ("info@openmined.org", "test@test.com", "root@localhost"):
        with pytest.raises(Refusal):
            ours.login(email, "changethis")
    import sqlite3

    with sqlite3.connect(f"file:{datasite_process.directory / 'datasite.db'}?mode=ro", uri=True) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        name = next(each for each in tables if each.lower() == "user")
        assert database.execute(f"SELECT count(*) FROM {name}").fetchone() == (3,)
