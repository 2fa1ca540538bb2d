"""uvicorn, told what to end before it waits for open answers: event streams end by themselves only after minutes."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

NOT_STARTED = 3  # the exit code of uvicorn's own command


def run(app: Any, *, before_shutdown: Callable[[], None], **options: Any) -> None:
    """`uvicorn.run`, with `before_shutdown` called in the server's loop once a signal has come."""

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            before_shutdown()
            await super().shutdown(sockets)

    server = Server(uvicorn.Config(app, **options))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(NOT_STARTED)
