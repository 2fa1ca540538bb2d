"""The datasite's ASGI app: PySyft's API under `/api/v2`, health at `/healthz`, and nothing that is not listed here.

Where a console is given, every other path is the console's, which has its own list of routes and its own rules.

A request passes three plain layers before PySyft sees it: the list of routes, the bound on its body, and for logins a
lock-out with back-off. Errors name no path, account or value.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datasites.settings import Settings
from datasites.syft_datasite import SyftDatasite

# What a PySyft client needs. Sign-up, password resets and streams are PySyft's own and stay closed.
ROUTES = {
    ("GET", "/healthz"),
    ("GET", "/api/v2/metadata"),
    ("GET", "/api/v2/metadata_capnp"),
    ("GET", "/api/v2/api"),
    ("POST", "/api/v2/api_call"),
    ("POST", "/api/v2/login"),
}
LARGEST_LOGIN = 4096
WRONG_LOGIN = "Wrong e-mail or password, or the account is closed."


class Gate:
    """Refuses routes that are not listed and bodies that are too large, before anything reads them.

    Args:
      console: answers whatever is neither PySyft's nor `/healthz`; None refuses all of it.
    """

    def __init__(self, app: ASGIApp, largest_body: int, console: ASGIApp | None = None) -> None:
        self.app = app
        self.largest_body = largest_body
        self.console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].rstrip("/") or "/"
        if self.console is not None and path != "/healthz" and path.split("/")[1] != "api":
            await self.console(scope, receive, send)
            return
        if (scope["method"], path) not in ROUTES:
            await Response("Not found.\n", 404)(scope, receive, send)
            return
        limit = LARGEST_LOGIN if path.endswith("/login") else self.largest_body
        body = await _read(receive, limit)
        if body is None:
            await Response(f"The body is larger than {limit} bytes.\n", 413)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        size += len(message.get("body", b""))
        if size > limit:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class LockOut:
    """Failures per account: after `free` of them each further try waits, twice as long each time, up to `longest`.

    The account alone is counted: behind a gateway all addresses look alike. `clock` gives seconds.
    """

    def __init__(self, *, free: int = 5, longest: float = 900.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.free, self.longest, self.clock = free, longest, clock
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def seconds_left(self, account: str) -> float:
        """How long this account must still wait; 0 where it may try."""
        with self._lock:
            count, last = self._failures.get(account, (0, 0.0))
        if count < self.free:
            return 0.0
        wait = min(self.longest, 2.0 ** (count - self.free))
        return max(0.0, last + wait - self.clock())

    def failed(self, account: str) -> None:
        """Count a failure."""
        with self._lock:
            if len(self._failures) > 10_000:  # strangers may make up accounts; forget the oldest half
                for name in sorted(self._failures, key=lambda each: self._failures[each][1])[:5_000]:
                    del self._failures[name]
            count, _ = self._failures.get(account, (0, 0.0))
            self._failures[account] = (count + 1, self.clock())

    def succeeded(self, account: str) -> None:
        """Forget an account's failures."""
        with self._lock:
            self._failures.pop(account, None)


def make_app(
    settings: Settings, syft: SyftDatasite, make_console: Callable[[LockOut], ASGIApp] | None = None
) -> ASGIApp:
    """The app that `datasite serve` runs.

    Args:
      make_console: makes the owner's console; it counts failed sign-ins with PySyft's, in one `LockOut`.
    """
    app = FastAPI(title=settings.name, docs_url=None, redoc_url=None, openapi_url=None)
    lock_out = LockOut()

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok", "name": settings.name}

    @app.post("/api/v2/login")
    def login(request: Request, credentials: dict[str, Any]) -> Response:
        email, password = str(credentials.get("email", "")).lower(), str(credentials.get("password", ""))
        wait = lock_out.seconds_left(email)
        if wait:
            return _octets(syft.refusal(f"Too many wrong passwords. Try again in {int(wait) + 1} seconds."))
        answer = syft.login(email, password)
        if answer is None:
            lock_out.failed(email)
            return _octets(syft.refusal(WRONG_LOGIN))
        lock_out.succeeded(email)
        return _octets(answer)

    router = APIRouter()
    router.include_router(syft.routes())
    app.include_router(router, prefix="/api/v2")
    console = make_console(lock_out) if make_console else None
    return Gate(app, settings.largest_body_mib << 20, console)


def _octets(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")
