"""What attacks aim at, and how it is seen that one was reached: secrets, a file that must not come to be, listeners.

`Canaries` lie in the process that stands for the datasite: a variable of its environment, bytes in its memory, an
object that the garbage collector knows. `Witnesses` watch from outside. Everything is on loopback and in one directory.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "HOSPITAL_PASSWORD"
ROW = 0.7312894105  # a private cell, by which rows are known wherever they turn up
ROW_DIGITS = "0.731289"


class TellTale:
    """An object that only a walk through the process's memory finds."""

    def __init__(self, token: str) -> None:
        self.token = token


class Canaries:
    """Secrets of the process that makes this.

    Args:
      tokens: by `variable`, `memory` and `object`.
    """

    def __init__(self, tokens: dict[str, str]) -> None:
        os.environ[VARIABLE] = tokens["variable"]
        self._memory = ctypes.create_string_buffer(tokens["memory"].encode())
        self._object = TellTale(tokens["object"])

    def aims(self) -> dict[str, object]:
        """Where these secrets lie, by the words that payloads use."""
        return {
            "SERVER_PID": os.getpid(),
            "SECRET_ADDRESS": ctypes.addressof(self._memory),
            "SECRET_SIZE": len(self._memory) - 1,
        }


class Witnesses:
    """Tokens, a directory that anybody may write to, and listeners on loopback."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="witnesses-"))
        self.directory.chmod(0o777)
        names = ("file", "variable", "memory", "object", "done")
        self.tokens = {name: f"canary{secrets.token_hex(8)}" for name in names}
        self.secret = self.directory / "secret.txt"
        self.secret.write_text(self.tokens["file"])
        self.made = self.directory / "made"
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.directory / "socket"))
        (self.directory / "socket").chmod(0o777)
        self.unix.listen()
        for each in (self.tcp, self.udp, self.unix):
            each.setblocking(False)

    def aims(self) -> dict[str, object]:
        """What the words in capitals of a payload stand for."""
        return {
            "SECRET_FILE": str(self.secret),
            "MADE_FILE": str(self.made),
            "SECRET_NAME": VARIABLE,
            "TCP_PORT": self.tcp.getsockname()[1],
            "UDP_PORT": self.udp.getsockname()[1],
            "UNIX_SOCKET": str(self.directory / "socket"),
            "DONE": self.tokens["done"],
        }

    def seen(self, answer: str) -> list[str]:
        """What was reached since the last look, `answer` being all that came back or was logged."""
        found = [name for name, token in self.tokens.items() if token in answer]
        if ROW_DIGITS in answer:
            found.append("row")
        if self.made.is_symlink() or self.made.exists():
            found.append("made")
            self.made.rmdir() if self.made.is_dir() and not self.made.is_symlink() else self.made.unlink()
        if self.secret.read_text() != self.tokens["file"]:
            found.append("changed")
            self.secret.write_text(self.tokens["file"])
        for name, listener in (("tcp", self.tcp), ("unix", self.unix)):
            with suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    found.append(name)
        with suppress(BlockingIOError):
            while self.udp.recv(65536) is not None:
                found.append("udp")
        return sorted(set(found))

    def close(self) -> None:
        for each in (self.tcp, self.udp, self.unix):
            each.close()
        for path in self.directory.iterdir():
            path.unlink()
        self.directory.rmdir()
