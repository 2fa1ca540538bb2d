"""A zygote for tests: it drew from every generator before it forks, and its exporter's jobs reach for the runner.

python -m tests.attacks.runner.hostile_zygote exporter=SOCKET runner=SOCKET
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasites.jobs import child, warming, zygote
from tests.attacks.runner.hostile_parent import draw_everything

libc = ctypes.CDLL(None, use_errno=True)


def _by_file(job: dict[str, Any]) -> str:
    with open(f"/proc/{job['runner']}/mem", "rb") as file:
        file.seek(job["address"])
        return file.read(16).hex()


def _by_call(job: dict[str, Any]) -> str:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    into = ctypes.create_string_buffer(16)
    local, remote = Vector(ctypes.addressof(into), 16), Vector(job["address"], 16)
    return (
        into.raw.hex()
        if libc.process_vm_readv(job["runner"], ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) == 16
        else ""
    )


def _by_tracing(job: dict[str, Any]) -> str:
    return "traced" if libc.ptrace(16, job["runner"], None, None) == 0 else ""


def _by_socket(job: dict[str, Any]) -> str:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(job["socket"])
    return "connected"


def _by_signal(job: dict[str, Any]) -> str:
    os.kill(job["runner"], signal.SIGSTOP)
    return "stopped"


def _by_files(job: dict[str, Any]) -> str:
    return str(os.listdir(f"/proc/{job['runner']}/fd"))


def _by_reading(job: dict[str, Any]) -> str:
    return Path(job["secret"]).read_text()


WAYS: dict[str, Callable[[dict[str, Any]], str]] = {
    "memory by file": _by_file,
    "memory by call": _by_call,
    "tracing": _by_tracing,
    "socket": _by_socket,
    "signal": _by_signal,
    "open files": _by_files,
    "the datasite's files": _by_reading,
}


def reach(job: dict[str, Any], payload: bytes) -> child.Answer:
    """What each way to the runner came to, from a job of the exporter: nothing, or what it got hold of."""
    reached: dict[str, str] = {}
    for name, way in WAYS.items():
        with contextlib.suppress(OSError):
            reached[name] = way(job)
    return {"reached": {name: what for name, what in reached.items() if what}}, b""


def main(arguments: list[str]) -> None:
    """Serve as the real one does."""
    import_them, done = warming.import_what_both_need, []

    def import_and_draw() -> None:
        import_them()
        if not done:  # before the forks, and not again after them
            draw_everything()
            done.append(True)

    warming.import_what_both_need = import_and_draw  # type: ignore[assignment]
    child.JOBS["exporter"]["reach"] = (reach, False)
    zygote.main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)
