"""A program that confines children of its own and has each try one thing that it may not do.

    python -m tests.attacks.runner.confined {root|user}[-helper] LAYERS-LEFT-OUT ATTACKS

(both comma-separated; answers JSON)

Each attack runs in a child of its own, with `-helper` in the thread that helps it, and returns a text: what it
achieved, or nothing where it was refused. What an attack aims at is made before the fork, by this program, with the
rights that a datasite has.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasites.engine import helpers
from datasites.jobs import isolation
from datasites.jobs.isolation import Limits

SECRET = b"nobody may read this"
MEMORY = 256 << 20
LAYERS = {
    "limits": "_set_limits",
    "namespaces": "_leave_namespaces",
    "user": "_become_nobody",
    "privileges": "_take_no_privileges",
    "landlock": "_close_file_system",
    "calls": "_allow_calls",
}
libc = ctypes.CDLL(None, use_errno=True)


class Targets:
    """What attacks aim at, made with the datasite's rights before a child is confined."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.secret = self.directory / "secret"
        self.secret.write_bytes(SECRET)
        self.secret.chmod(0o600)
        self.buffer = ctypes.create_string_buffer(SECRET)
        self.open_file = os.open(self.directory / "open", os.O_CREAT | os.O_RDWR)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.directory / "socket"))
        self.unix.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{self.directory}")
        self.abstract.listen()
        self.setuid = self.directory / "id"
        self.setuid.write_bytes(Path("/usr/bin/id").read_bytes())
        self.setuid.chmod(0o755 | stat.S_ISUID)
        self.directory.chmod(0o755)
        self.pair = socket.socketpair()
        self.parent, self.sibling = os.getpid(), 0

    def renew_sibling(self) -> None:
        """Another process of the user that jobs run as, as another job would be: so that this user has one too many."""
        read, write = os.pipe()
        self.sibling = os.fork()
        if self.sibling == 0:
            if os.geteuid() == 0:
                os.setresgid(isolation.NOBODY, isolation.NOBODY, isolation.NOBODY)
                os.setresuid(isolation.NOBODY, isolation.NOBODY, isolation.NOBODY)
            os.write(write, b".")
            os.close(read)
            os.close(write)
            time.sleep(60)
            os._exit(0)
        os.read(read, 1)
        os.close(read)
        os.close(write)


def tcp(t: Targets) -> str:
    with socket.socket() as s:
        s.settimeout(0.5)
        s.connect(t.tcp.getsockname())
    return "connected"


def udp(t: Targets) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", t.udp.getsockname())
    return "sent" if select.select([t.udp], [], [], 0.2)[0] else ""


def unix(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(t.directory / "socket"))
    return "connected"


def abstract(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"\0{t.directory}")
    return "connected"


def families(t: Targets) -> str:
    made = []
    for family in range(46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            descriptor = libc.socket(family, kind, 0)
            if descriptor >= 0:
                made.append(family)
                os.close(descriptor)
    return f"families {made}" if made else ""


def names(t: Targets) -> str:
    return str(socket.getaddrinfo("localhost", 80))


def read_own(t: Targets) -> str:
    return t.secret.read_bytes().decode()


def read_any(t: Targets) -> str:
    return Path("/etc/passwd").read_text()[:20]


def create(t: Targets) -> str:
    os.close(os.open("/tmp/made-by-an-attack", os.O_CREAT | os.O_WRONLY))
    os.unlink("/tmp/made-by-an-attack")
    return "created"


def look(t: Targets) -> str:
    return str(os.stat("/etc/passwd").st_size)


def process_files(t: Targets) -> str:
    return str(len(Path(f"/proc/{t.parent}/environ").read_bytes()))


def own_descriptors(t: Targets) -> str:
    return str(os.listdir("/proc/self/fd"))


def fork(t: Targets) -> str:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


def thread(t: Targets) -> str:
    started = threading.Thread(target=int)
    started.start()
    started.join()
    return "started"


def execute(t: Targets) -> str:
    os.dup2(RESULT, 1)
    os.execv("/bin/echo", ["echo", "executed"])


def setuid_program(t: Targets) -> str:
    os.dup2(RESULT, 1)
    os.execv(t.setuid, ["id", "-u"])


def kill_parent(t: Targets) -> str:
    os.kill(t.parent, 0)
    return "reached"


def kill_sibling(t: Targets) -> str:
    os.kill(t.sibling, signal.SIGTERM)
    return "killed"


def signal_by_file(t: Targets) -> str:
    """The kernel sends a signal of our choice to whom we name when data arrives."""
    fcntl.fcntl(t.pair[0], fcntl.F_SETOWN, t.sibling)
    fcntl.fcntl(t.pair[0], fcntl.F_SETSIG, signal.SIGTERM)
    fcntl.fcntl(t.pair[0], fcntl.F_SETFL, fcntl.fcntl(t.pair[0], fcntl.F_GETFL) | os.O_ASYNC)
    t.pair[1].send(b"x")
    time.sleep(0.1)
    return ""  # whether the sibling lives is seen from outside


def limit_sibling(t: Targets) -> str:
    resource.prlimit(t.sibling, resource.RLIMIT_CPU, (0, 0))
    return "limited"


def clock_of_sibling(t: Targets) -> str:
    return str(time.clock_gettime((~t.sibling << 3) | 2))


def processors_of_sibling(t: Targets) -> str:
    return str(os.sched_getaffinity(t.sibling))


def memory_of_parent(t: Targets) -> str:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    found = ctypes.create_string_buffer(len(SECRET))
    local = Vector(ctypes.cast(found, ctypes.c_void_p), len(SECRET))
    remote = Vector(ctypes.addressof(t.buffer), len(SECRET))
    libc.process_vm_readv(t.parent, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    return found.raw.decode() if found.raw == SECRET else ""


def trace_parent(t: Targets) -> str:
    attach, detach = 16, 17
    if libc.ptrace(attach, t.parent, None, None) != 0:
        return ""
    os.waitpid(t.parent, 0)
    libc.ptrace(detach, t.parent, None, None)
    return "traced"


def become_root(t: Targets) -> str:
    os.setuid(0)
    return "root" if os.geteuid() == 0 else ""


def raise_limit(t: Targets) -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    return "raised"


def capabilities(t: Targets) -> str:
    words = (ctypes.c_uint32 * 6)()
    done = libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), ctypes.byref(words)) == 0
    return "has capabilities" if done and any(words) else ""


def undo_privileges(t: Targets) -> str:
    return "undone" if libc.prctl(isolation.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 else ""


def unshare(t: Targets) -> str:
    return "unshared" if libc.unshare(isolation.NEWUSER) == 0 else ""


def private_memory(t: Targets) -> str:
    return str(len(bytearray(2 * MEMORY)))


def shared_memory(t: Targets) -> str:
    return str(len(mmap.mmap(-1, 2 * MEMORY)))


def locked_memory(t: Targets) -> str:
    memory = mmap.mmap(-1, 1 << 16)
    return (
        "locked"
        if libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), 1 << 16) == 0
        else ""
    )


def many_files(t: Targets) -> str:
    return str([os.dup(2) for _ in range(40)])


def write_file(t: Targets) -> str:
    return str(os.write(t.open_file, b"x"))


def processor(t: Targets) -> str:
    while time.process_time() < 3:
        pass
    return "3 seconds"


def every_other_call(t: Targets) -> str:
    """Every call that is not on the list, with arguments that no kernel takes."""
    import pyseccomp

    allowed = {*isolation.ALLOWED_CALLS, "sched_getaffinity", "sched_getparam", "sched_getscheduler", "clock_gettime"}
    allowed |= {"clock_getres", "clock_nanosleep", "prlimit64", "fcntl"}
    numbers = set()
    for name in allowed:
        try:
            numbers.add(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))
        except (OSError, ValueError):
            continue
    passed = []
    for number in set(range(480)) - numbers:
        ctypes.set_errno(0)
        if libc.syscall(number, -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() not in (1, 38):
            passed.append((number, ctypes.get_errno()))
    return str(passed) if passed else ""


def other_table(t: Targets) -> str:
    """`getpid` by the number that it has in x32's table: an allowed call, by a way that the list does not know."""
    return "called" if libc.syscall(0x40000000 + 39) > 0 else ""


ATTACKS: dict[str, Callable[[Targets], str]] = {
    each.__name__: each
    for each in (
        *(tcp, udp, unix, abstract, families, names, read_own, read_any, create, look, process_files, own_descriptors),
        *(fork, thread, execute, setuid_program, kill_parent, kill_sibling, signal_by_file, limit_sibling),
        *(clock_of_sibling, processors_of_sibling, memory_of_parent, trace_parent, become_root, raise_limit),
        *(capabilities, undo_privileges, unshare, private_memory, shared_memory, locked_memory, many_files),
        *(write_file, processor, every_other_call, other_table),
    )
}
RESULT = 0


def attempt(name: str, targets: Targets, without: set[str], *, helped: bool = False) -> dict[str, Any]:
    """One attack in one confined child: what it achieved, and the protections that were reported."""
    global RESULT
    targets.renew_sibling()
    read, RESULT = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        for layer in without:
            replacement = (lambda limits, *_, **__: limits.of(0, 0)) if layer == "limits" else (lambda *_: False)
            setattr(isolation, LAYERS[layer], replacement)
        holds: dict[str, bool] = {}
        achieved = ""
        try:
            begun: list[helpers.Helper] = []
            holds = isolation.confine(
                Limits(memory=MEMORY, cpu_seconds=1),
                datasite_user=os.getuid(),
                begin=lambda: begun.extend(helpers.begin(int(helped))) or begun,
            )
            os.write(RESULT, json.dumps(holds).encode() + b"\n")
            if helped:
                begun[0].ask(ATTACKS[name], targets)
                achieved = begun[0].answer()
            else:
                achieved = ATTACKS[name](targets)
        except (OSError, RuntimeError, MemoryError, ValueError):
            pass
        finally:
            os.write(RESULT, achieved.encode())
            os._exit(0)
    os.close(RESULT)
    said = b""
    while part := os.read(read, 65536):
        said += part
    os.close(read)
    _, status = os.waitpid(child, 0)
    ended, how = os.waitpid(targets.sibling, os.WNOHANG)
    if not ended:
        os.kill(targets.sibling, signal.SIGKILL)
        os.waitpid(targets.sibling, 0)
    holds, _, achieved = said.decode().partition("\n")
    if ended and os.WIFSIGNALED(how):
        achieved = f"the sibling died of signal {os.WTERMSIG(how)}"
    if name == "setuid_program" and achieved.strip() != "0":
        achieved = ""  # it ran, without its owner's rights
    return {"holds": json.loads(holds or "{}"), "achieved": achieved, "signal": status & 127}


def main(who: str, without: str, attacks: str) -> None:
    """Try each attack and print what came of it."""
    libc.prctl(0x59616D61, -1, 0, 0, 0)  # PR_SET_PTRACER_ANY: no help from Yama, where a host has it
    if who.startswith("user"):
        os.setgroups([])
        os.setresgid(12345, 12345, 12345)
        os.setresuid(12345, 12345, 12345)
        libc.prctl(isolation.PR_SET_DUMPABLE, 1, 0, 0, 0)
    targets = Targets()
    layers, helped = set(filter(None, without.split(","))), who.endswith("-helper")
    print(json.dumps({name: attempt(name, targets, layers, helped=helped) for name in attacks.split(",")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
