"""Forms: what a browser sends is what a page reads, within bounds, and no upload touches a disk while it is read."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from datasites.console import app
from datasites.console.forms import MOST_FIELDS, MOST_FILES, Form, FormTooLarge, read_form
from datasites.door.app import LockOut
from datasites.people.accounts import Role
from policies.errors import InvalidRequest
from tests import loops
from tests.browser.desk import Desk

PLENTY = 1 << 26
NAMES = st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def read(kind: str, body: bytes, *, largest: int = PLENTY, chunk: int = 1 << 16) -> Form:
    """The form in a body that arrives in chunks."""
    parts = [body[start : start + chunk] for start in range(0, len(body), chunk)] or [b""]
    last = len(parts) - 1
    messages = iter(
        {"type": "http.request", "body": part, "more_body": number < last} for number, part in enumerate(parts)
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    headers = [(b"content-type", kind.encode("latin-1"))] if kind else []
    return loops.run(read_form(Request({"type": "http", "headers": headers}, receive), largest))  # type: ignore[arg-type]


def sent(**request: Any) -> tuple[str, bytes]:
    """Content type and body as a client sends them."""
    made = httpx.Request("POST", "http://a", **request)
    return made.headers["content-type"], made.read()


@given(st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=10), st.integers(1, 99))
@settings(max_examples=100, deadline=None)
def test_fields_are_read_as_sent(fields: dict[str, list[str]], chunk: int) -> None:
    assert read(*sent(data=fields), chunk=chunk).fields == fields


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.binary(max_size=3000), st.integers(1, 999))
@settings(max_examples=100, deadline=None)
def test_files_are_read_as_sent(fields: dict[str, str], content: bytes, chunk: int) -> None:
    files = {"table": ("Größe #1.csv", content), "mock": ("", b"")}
    form = read(*sent(data=fields, files=files), chunk=chunk)
    assert {name: form.text(name) for name in fields} == {name: value.strip() for name, value in fields.items()}
    assert set(form.files) >= {"table"}
    table = form.files["table"]
    assert (table.filename, table.size, table.file.read()) == ("Größe #1.csv", len(content), content)
    assert str(content) not in repr(form) or not content
    form.close()
    assert table.file.closed


def test_no_body_is_an_empty_form() -> None:
    assert read("", b"") == Form()


def test_no_upload_touches_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def spool(*_: object, **__: object) -> None:
        raise AssertionError("an upload went to the host's directory of temporary files")

    monkeypatch.setattr(tempfile, "TemporaryFile", spool)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", spool)
    content = b"1,2,3\n" * (2 << 20)  # 12 MiB, and Starlette alone would spool from 1 MiB on
    form = read(*sent(files={"table": ("t.csv", content)}))
    assert form.files["table"].file.read() == content


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"data": {"a": "x" * 2000}}, {"files": {"a": ("a.csv", b"x" * 2000)}}])
def test_a_body_above_the_bound_is_not_read_to_its_end(more: dict[str, Any]) -> None:
    kind, body = sent(**more)
    assert len(read(kind, body, largest=len(body)).fields) + len(read(kind, body).files) == 1
    with pytest.raises(FormTooLarge):
        read(kind, body, largest=len(body) - 1)
    arrived: list[int] = []

    async def receive() -> dict[str, Any]:
        arrived.append(1)
        return {"type": "http.request", "body": body[:100], "more_body": True}  # for ever

    request = Request({"type": "http", "headers": [(b"content-type", kind.encode())]}, receive)  # type: ignore[arg-type]
    with pytest.raises((FormTooLarge, InvalidRequest)):
        loops.run(read_form(request, 1000))
    assert len(arrived) <= 11


@pytest.mark.parametrize("send", ["data", "files"])
def test_fields_are_counted(send: str) -> None:
    def form(number: int) -> tuple[str, bytes]:
        values = {f"f{index}": (None, "x") if send == "files" else "x" for index in range(number)}
        return sent(**{send: values})

    assert len(read(*form(MOST_FIELDS)).fields) == MOST_FIELDS
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read(*form(MOST_FIELDS + 1))


def test_files_are_counted() -> None:
    def form(number: int) -> tuple[str, bytes]:
        return sent(files={f"f{index}": ("a.csv", b"x") for index in range(number)})

    assert len(read(*form(MOST_FILES)).files) == MOST_FILES
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read(*form(MOST_FILES + 1))


def test_a_form_that_is_cut_off_is_refused_wherever_it_is_cut() -> None:
    kind, body = sent(data={"csrf": "1"}, files={"table": ("t.csv", b"a,b\n1,2\n"), "mock": ("m.csv", b"a,b\n")})
    assert set(read(kind, body).files) == {"table", "mock"}
    for end in range(len(body) - len(b"--\r\n")):
        with pytest.raises(InvalidRequest, match="cannot be read"):
            read(kind, body[:end])


KINDS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data", "text/x", "")
PIECES = (
    b"--x",
    b"\r\n",
    b"--",
    b"Content-Disposition: form-data; ",
    b'name="a"',
    b'; filename="b"',
    b"=",
    b"&;%z",
    b":",
)


@given(
    kind=st.sampled_from(KINDS) | st.text(st.characters(max_codepoint=255), max_size=40),
    body=st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join),
    chunk=st.integers(1, 50),
)
@settings(max_examples=500, deadline=None)
def test_no_bytes_make_it_fail(kind: str, body: bytes, chunk: int) -> None:
    with contextlib.suppress(InvalidRequest):
        assert isinstance(read(kind, body, chunk=chunk), Form)


# -- the console -------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()


def publish(desk: Desk, table: bytes, **fields: str) -> httpx.Response:
    owner = desk.browser(Role.OWNER)
    values = {"csrf": owner.csrf, "schema": desk.schema.to_toml(), "size": "declared", "patients": "120", **fields}
    answer: httpx.Response = owner.client.post("/datasets/publish", data=values, files={"table": ("t.csv", table)})
    return answer


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({}, 422, "row"),
        ({"schema": "nonsense"}, 422, "not TOML"),
        ({"patients": "many"}, 422, "is not a number"),
        ({"csrf": "stolen"}, 403, "another session"),
    ],
)
def test_an_upload_is_gone_after_a_refusal(desk: Desk, fields: dict[str, str], status: int, says: str) -> None:
    directory = desk.datasite.settings.directory
    marker = b"MARKER-OF-A-PRIVATE-CELL"
    answer = publish(desk, b"age,sex\n" + b"1," + marker + b"\n" * 3 + b"9" * (2 << 20), **fields)
    assert (answer.status_code, says in answer.text) == (status, True)
    assert not list(directory.glob("upload-*"))
    kept = [path for path in directory.rglob("*") if path.is_file() and marker in path.read_bytes()]
    assert kept == []


def test_an_upload_that_a_killed_process_left_is_gone_at_the_next_start(desk: Desk) -> None:
    scratch = desk.datasite.settings.directory / "upload-abc"
    scratch.mkdir()
    (scratch / "table.csv").write_text("private")
    app.make_console(desk.datasite, LockOut())
    assert not scratch.exists()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_that_comes_too_slowly_is_refused(desk: Desk, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SLOWEST", 0.05)
    said: list[dict[str, Any]] = []
    parts = iter([b"--x\r\n"])

    async def receive() -> dict[str, Any]:
        for part in parts:
            return {"type": "http.request", "body": part, "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError("the form was waited for")

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"content-type", kind.encode()), (b"host", b"testserver")]
    scope = {
        "type": "http", "method": "POST", "path": "/sign-in", "raw_path": b"/sign-in", "query_string": b"",
        "headers": headers, "scheme": "http", "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    loops.run(asyncio.wait_for(desk.app(scope, receive, send), 10))  # type: ignore[arg-type]
    assert said[0]["status"] == 408
