"""Unix control socket: commands act as owner on a datasite that serves.

On one that does not serve they act on its directory itself; either way the same functions of `datasites.actions` run.
The socket is 0600 in a 0700 directory, so who can connect is who may act as owner; the kernel says which user of the
operating system that is, and the audit log names it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasites.files import refused_by_system
from datasites.progress import Tell, told_to
from policies.errors import DatasiteError, Unavailable

logger = logging.getLogger(__name__)
Act = Callable[[str, str, dict[str, Any]], Any]
LARGEST_LINE = 64 * 1024 * 1024


def user_name(uid: int) -> str:
    """The operating system's name of a user, as the audit log writes it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class ControlServer:
    """Answers commands on a Unix socket with `act(name, actor, arguments)`, one line of JSON each way.

    Before its answer, a long action may send lines that say what it is doing.
    """

    def __init__(self, path: Path, act: Act) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                _, uid, _ = struct.unpack("3i", self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                line = self.rfile.readline(LARGEST_LINE)
                if line:
                    with told_to(self.tell):
                        answer = _answer(act, user_name(uid), line)
                    with contextlib.suppress(OSError):  # who asked may be gone
                        self.wfile.write(answer + b"\n")

            def tell(self, text: str) -> None:
                try:
                    self.wfile.write(json.dumps({"progress": text}).encode() + b"\n")
                except OSError:
                    raise Unavailable("Who asked for this is gone.") from None

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        path.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            self._server = Server(str(path), Handler)
        finally:
            os.umask(previous)
        self._path = path
        self._thread = threading.Thread(target=self._server.serve_forever, name="control", daemon=True)

    def start(self) -> None:
        """Answer from now on, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def ask(path: Path, action: str, arguments: dict[str, Any], *, tell: Tell = lambda text: None) -> Any:
    """What the serving datasite at `path` answers to an action.

    Raises:
      ConnectionError: nothing serves there.
      DatasiteError: the datasite refused, with its own message.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ConnectionError(str(error)) from None
        except PermissionError:
            raise DatasiteError(f"{path} belongs to another user. Run this as that user.") from None
        with connection.makefile("rwb") as stream:
            stream.write(json.dumps({"action": action, "arguments": arguments}).encode() + b"\n")
            stream.flush()
            while (line := stream.readline()).startswith(b'{"progress"'):
                tell(json.loads(line)["progress"])
    if not line:
        raise Unavailable("The datasite ended before it answered. Look at its log and run the command again.")
    answer = json.loads(line)
    if "error" in answer:
        raise DatasiteError(answer["error"])
    return answer["value"]


def _answer(act: Act, actor: str, line: bytes) -> bytes:
    try:
        request = json.loads(line)
        value = act(request["action"], actor, request["arguments"])
        return json.dumps({"value": value}).encode()
    except DatasiteError as error:
        return json.dumps({"error": str(error)}).encode()
    except OSError as error:  # of a path that was given, or of the disk
        logger.error("A command failed.", exc_info=True)
        return json.dumps({"error": refused_by_system(error)}).encode()
    except Exception:  # a fault of ours: the owner gets the traceback in the log, the command a sentence
        logger.error("A command failed.", exc_info=True)
        return json.dumps({"error": "The datasite failed inside; its log has the traceback."}).encode()
