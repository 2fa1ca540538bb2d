"""The datasite's ASGI app: PySyft's API under `/api/v2`, health at `/healthz`, and nothing that is not listed here.

Where a console is given, every other path is the console's, which has its own list of routes and its own rules.

A request passes three plain layers before PySyft sees it: the list of routes, the bound on its body, and for logins a
lock-out with back-off. One that comes sealed is opened here and passes them again (`datasites.door.sealed`). Errors
name no path, account or value.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Set
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datasites.directory import identity_key
from datasites.door.memory import BODIES, Held, Memory, NoRoom
from datasites.door.sealed import SealedCalls, answered
from datasites.door.syft.guard import Malformed, UnknownKey
from datasites.door.syft.server import SyftDatasite
from datasites.people.lock_out import LockOut
from datasites.settings import Settings
from policies.addresses import owner_of
from policies.email_addresses import as_typed
from policies.wire.sealing import NONCE, OVERHEAD, NotOpened, seal_answer

if TYPE_CHECKING:
    from datasites.operations.metrics import Metrics

# What a PySyft client needs. Sign-up, password resets and streams are PySyft's own and stay closed.
PYSYFT_ROUTES = {
    ("GET", "/api/v2/metadata"),
    ("GET", "/api/v2/api"),
    ("POST", "/api/v2/api_call"),
    ("POST", "/api/v2/login"),
}
ROUTES = PYSYFT_ROUTES | {
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("POST", "/api/v2/sealing"),
    ("POST", "/api/v2/sealed"),
}
ALONE = ("/healthz", "/metrics")
LARGEST_LOGIN = 4096
LARGEST_SEALING = 1024
LONGEST_PURPOSE = 300
WRONG_LOGIN = "Wrong e-mail or password, or the account is closed."


class Gate:
    """Refuses routes that are not listed and bodies that are too large, before anything reads them.

    Args:
      largest_body: bytes of one body.
      memory: where bodies are counted while they are held, each to the address that it comes from; a call that finds
        no room is asked to come back.
      routes: that are open; all of `ROUTES` by default.
    """

    def __init__(
        self, app: ASGIApp, largest_body: int, *, memory: Memory, routes: Set[tuple[str, str]] | None = None
    ) -> None:
        self.app = app
        self.memory = memory
        self.routes = ROUTES if routes is None else routes
        self._largest = {
            "/api/v2/login": LARGEST_LOGIN,
            "/api/v2/api_call": largest_body,
            "/api/v2/sealing": LARGEST_SEALING,
            "/api/v2/sealed": largest_body + OVERHEAD,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        if (scope["method"], path) not in self.routes:
            await Response("Not found.\n", 404)(scope, receive, send)
            return
        limit = self._largest.get(path, 0)
        parts: list[bytes] = []
        with self.memory.held(BODIES, address_of(scope)) as held:
            refusal = await self._read(scope, receive, limit, parts, held)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            await self.app(scope, _replay(b"".join(parts), receive), send)

    async def _read(
        self, scope: Scope, receive: Receive, limit: int, parts: list[bytes], held: Held
    ) -> Response | None:
        """Read a body into `parts`, within `limit` and what is free; else why not."""
        too_large = Response(f"The body is larger than {limit} bytes.\n", 413)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > limit:
            return too_large  # before any of it comes
        size, more = 0, True
        while more:
            try:
                message = await receive()
            except TimeoutError:
                return Response("The body came too slowly.\n", 408)
            if message["type"] != "http.request":
                return Response("The body ended early.\n", 400)
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > limit:
                return too_large
            try:
                held.take(len(part))
            except NoRoom as error:
                return Response(f"{error}\n", 503, {"retry-after": "5"})
            parts.append(part)
        return None


def address_of(scope: Scope) -> str:
    """Whose the address is that a request comes from; "" where there is none."""
    return owner_of((scope.get("client") or ("", 0))[0])


class WithConsole:
    """PySyft's routes and `/healthz` through their gate, every other path to the console with its own rules."""

    def __init__(self, gate: ASGIApp, console: ASGIApp) -> None:
        self.gate, self.console = gate, console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = scope["type"] == "http" and path not in ALONE and path.split("/")[1:2] != ["api"]
        await (self.console if ours else self.gate)(scope, receive, send)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def route_class(path: str) -> str:
    """What logs and metrics call a path: one of our few routes, or whose it is."""
    if any(path == known for _, known in ROUTES):
        return path
    first = path.split("/")[1:2]
    return "other" if first == ["api"] else "static" if first == ["static"] else "console"


def make_app(
    settings: Settings,
    syft: SyftDatasite,
    make_console: Callable[[LockOut], ASGIApp] | None = None,
    metrics: Metrics | None = None,
) -> ASGIApp:
    """The app that `datasite serve` runs.

    Args:
      make_console: makes the owner's console; it counts failed sign-ins with PySyft's, in one `LockOut`.
      metrics: shown under `/metrics` to whoever has their token; without them there is no such page.
    """
    app = FastAPI(title=settings.name, docs_url=None, redoc_url=None, openapi_url=None)
    lock_out, one_login = LockOut(), asyncio.Semaphore(1)

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok", "name": settings.name}

    @app.get("/metrics")
    def metrics_page(request: Request) -> Response:
        if metrics is None:
            return Response("Not found.\n", 404)
        if not metrics.admits(request.headers.get("authorization", "")):
            return Response("Show the token of the metrics.\n", 401, {"www-authenticate": "Bearer"})
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/api/v2/login")
    async def login(request: Request) -> Response:
        email, password = _credentials(await request.body())
        async with one_login:  # passwords take a processor a quarter of a second each; the others are for work
            account, address = as_typed(email), address_of(request.scope)
            wait = lock_out.begin(account, address)
            if wait:
                return _octets(syft.refusal(f"Too many wrong passwords. Try again in {int(wait) + 1} seconds."))
            answer = await run_in_threadpool(syft.login, email, password)
            if answer is None:
                return _octets(syft.refusal(WRONG_LOGIN))
            lock_out.succeeded(account, address)
            return _octets(answer)

    @app.get("/api/v2/metadata")
    def metadata() -> dict[str, Any]:
        return syft.metadata()

    @app.get("/api/v2/api")
    def endpoints(verify_key: str = "") -> Response:
        answer = syft.endpoints(verify_key)
        return Response("Not found.\n", 404) if answer is None else _octets(answer)

    @app.post("/api/v2/api_call")
    async def api_call(request: Request) -> Response:
        body = await request.body()
        try:
            return _octets(await run_in_threadpool(syft.answer, body))
        except UnknownKey as error:
            return Response(f"{error}\n", 401)
        except Malformed as error:
            return Response(f"{error}\n", 400)

    largest = settings.largest_body_mib << 20
    sealed_calls = SealedCalls(identity_key(settings.directory), settings.name)
    inner = Gate(app, largest, memory=syft.memory, routes=PYSYFT_ROUTES)
    add_sealed_routes(app, sealed_calls, inner)
    gate = Gate(app, largest, memory=syft.memory)
    return WithConsole(gate, make_console(lock_out)) if make_console else gate


def add_sealed_routes(app: FastAPI, calls: SealedCalls, inner: ASGIApp) -> None:
    """Let an app open sealed calls, and answer them by `inner`, sealed."""

    @app.post("/api/v2/sealing")
    async def sealing(request: Request) -> Response:
        asked = _asked(await request.body())
        if asked is None:
            return Response("Ask with a purpose and a nonce of 32 bytes.\n", 400)
        return Response(calls.statement(*asked), media_type="application/json")

    @app.post("/api/v2/sealed")
    async def sealed(request: Request) -> Response:
        body = await request.body()
        try:
            call = await run_in_threadpool(calls.open, body)
        except NotOpened as error:
            return Response(f"{error}\n", 409)
        answer = await answered(inner, call, request.scope)
        return _octets(await run_in_threadpool(seal_answer, answer, call.answer_key))


def _asked(body: bytes) -> tuple[str, bytes] | None:
    """What a statement is asked for, and the asker's nonce."""
    try:
        given = json.loads(body)
        purpose, nonce = given["for"], bytes.fromhex(given["nonce"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(purpose, str) or not 0 < len(purpose) <= LONGEST_PURPOSE or len(nonce) != NONCE:
        return None
    return purpose, nonce


def _credentials(body: bytes) -> tuple[str, str]:
    """E-mail and password of a login; empty texts, which fit no account, where there are none."""
    try:
        given = json.loads(body)
        email, password = given["email"], given["password"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", ""
    if not isinstance(email, str) or not isinstance(password, str):
        return "", ""
    return email.strip(), password


def _octets(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")
