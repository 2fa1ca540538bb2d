"""Logging of a serving datasite: in full for its owner in the directory, public events for its operator on stderr.

An operator's log driver carries standard error to other machines, so nothing of a private row may be in it, and a
traceback or another program's message may hold one. Hence the two:

* `datasite.log` in the directory (0600, three old ones are kept) has warnings and errors as they are, with tracebacks;
  what PySyft and its libraries print themselves goes to `datasite.out` beside it.
* Standard error has one event a line, as text or JSON: the fixed text of our own modules, with only those arguments
  that are marked `Shown`; of every other module's message, only that there was one. Beside them one line for each HTTP
  request: method, class of route and status; no query, body, address or account.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

OURS = ("datasites", "policies")
LARGEST_LOG = 10 << 20
QUIET = ("/healthz", "/metrics")  # asked every few seconds; a line only where they fail

_request: ContextVar[str] = ContextVar("request", default="")
access = logging.getLogger("datasites.access")
logger = logging.getLogger(__name__)


class Shown(str):
    """An argument of a log line that an operator may read: an identifier, a count, the name of an error's class."""

    __slots__ = ()


def public_event(record: logging.LogRecord) -> str:
    """What standard error may hold of a record: nothing that is not ours by its text or marked `Shown`."""
    if record.name.split(".")[0] not in OURS or not isinstance(record.msg, str):
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        return f"A message{f' about {kind}' if kind else ''} is in datasite.log."
    arguments = record.args if isinstance(record.args, tuple) else ()
    shown = tuple(argument if isinstance(argument, Shown) else _Hidden() for argument in arguments)
    try:
        return (record.msg % shown if shown else record.msg).splitlines()[0]
    except (TypeError, ValueError, IndexError):
        return "A message is in datasite.log."


class _Hidden:
    """Stands for an argument that is not shown, in whatever form the text asks for it."""

    def __str__(self) -> str:
        return "…"

    __repr__ = __str__


class _Public(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = getattr(record, "public", {})
        request = _request.get()
        if self.as_json:
            line = {"time": when, "level": record.levelname, "logger": record.name, "event": public_event(record)}
            return json.dumps(line | ({"request": request} if request else {}) | fields, ensure_ascii=False)
        more = "".join(f" {name}={value}" for name, value in fields.items())
        return f"{when} {record.levelname} {record.name}: {public_event(record)}{more}{f' [{request}]' * bool(request)}"


def say(event: str, **fields: Any) -> None:
    """Tell the operator something of the start, with fields that are public."""
    logger.info(event, extra={"public": fields})


@contextlib.contextmanager
def serving_logs(directory: Path, log_format: str) -> Iterator[TextIO]:
    """Logs as above until it is left. What was standard output is given, for the words of the start."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    before = logging.getLogger().handlers[:], logging.getLogger().level, threading.excepthook, logging.raiseExceptions
    with (
        os.fdopen(os.dup(1), "w", encoding="utf-8") as out,
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as err,
    ):
        handlers = _handlers(directory, err, log_format)
        logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
        logging.getLogger("datasites").setLevel(logging.INFO)
        logging.raiseExceptions = False  # a full disk is no reason to print a record elsewhere
        threading.excepthook = _thread_ended
        _redirect(directory / "datasite.out")
        try:
            yield out
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
            logging.basicConfig(level=before[1], handlers=before[0], force=True)
            threading.excepthook, logging.raiseExceptions = before[2], before[3]
            for handler in handlers:
                handler.close()


def _handlers(directory: Path, err: TextIO, log_format: str) -> list[logging.Handler]:
    file = logging.handlers.RotatingFileHandler(
        directory / "datasite.log", maxBytes=LARGEST_LOG, backupCount=3, encoding="utf-8", errors="replace"
    )
    file.setLevel(logging.WARNING)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    operator = logging.StreamHandler(err)
    operator.setFormatter(_Public(log_format == "json"))
    return [file, operator]


def _redirect(path: Path) -> None:
    """Let whatever this process and its children print themselves go into the directory."""
    if path.exists() and path.stat().st_size > LARGEST_LOG:
        path.replace(path.with_name("datasite.old.out"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _thread_ended(ending: threading.ExceptHookArgs) -> None:
    if ending.exc_value is not None and ending.exc_type is not SystemExit:
        exception = ending.exc_type, ending.exc_value, ending.exc_traceback
        logger.error("A thread ended with %s.", Shown(ending.exc_type.__name__), exc_info=exception)


class Observed:
    """Gives each HTTP request an identifier, and tells of its end: a line of the log, and `count(route, status)`.

    Args:
      route: the class of a request's path; a few fixed words.
    """

    def __init__(self, app: ASGIApp, route: Callable[[str], str], count: Callable[[str, int], None]) -> None:
        self.app, self.route, self.count = app, route, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, request = 500, secrets.token_hex(6)
        token = _request.set(request)

        async def telling(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.encode())]
            await send(message)

        try:
            await self.app(scope, receive, telling)
        except Exception as error:
            logger.error("A request failed with %s.", Shown(type(error).__name__), exc_info=True)
            raise
        finally:
            route = self.route(scope["path"])
            self.count(route, status)
            if route not in QUIET or status >= 400:
                method = scope["method"] if scope["method"] in METHODS else "other"
                access.info("request", extra={"public": {"method": method, "route": route, "status": status}})
            _request.reset(token)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
