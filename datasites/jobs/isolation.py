"""Confine a job's process with namespaces, Landlock, seccomp and limits, and report what then holds.

Each protection is a *property*, reached by any means that this host offers and then probed by trying what it forbids.
Two independent layers usually stand behind each: namespaces or another user, and a list of allowed system calls.

    no_network        a new network namespace, Landlock without a port, and `socket` is not an allowed call
    no_files          Landlock without a rule, and `open` is not an allowed call
    no_new_processes  `fork` and `exec` are not allowed calls, RLIMIT_NPROC
    no_signals        Landlock's scope, and `kill`, `ptrace` and relatives are not allowed calls
    no_new_privileges PR_SET_NO_NEW_PRIVS
    no_capabilities   bounding set emptied, effective and permitted sets empty
    own_user          neither root nor the datasite's user
    limits            memory, CPU time, processes, open files, file size, locked memory, core dumps
    system_calls      the filter itself is loaded

Threads that help begin after all of this but the limits and the filter, and none begins later. They inherit what this
thread gave up, which each thread of Linux gives up for itself; the limits are the process's; the filter is loaded into
all threads at once. What is probed is probed in each.

Some allowed calls reach other processes with the right arguments, so those are checked too: `prlimit64` sets another
job's limits, `fcntl` can have the kernel send it a signal, and a clock may be another process's processor time.

References: seccomp(2), landlock(7), capabilities(7). Nothing here depends on private rows: it is over before they come.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

try:  # imported before anything is given up: it looks for libseccomp on the file system
    import pyseccomp
except (ImportError, OSError, RuntimeError):
    pyseccomp = None

NOBODY = 65534
PROTECTIONS = (
    "no_network",
    "no_files",
    "no_new_processes",
    "no_signals",
    "no_new_privileges",
    "no_capabilities",
    "own_user",
    "limits",
    "system_calls",
)

# Calls that computing on memory that is already there needs, and the two ends of one socket.
ALLOWED_CALLS = """
    read write readv writev recvmsg sendmsg recvfrom sendto close lseek fstat poll ppoll select pselect6 dup
    mmap munmap mprotect mremap madvise brk membarrier futex futex_waitv set_robust_list rseq
    sched_yield nanosleep gettimeofday time times getrusage rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
    restart_syscall getpid getppid gettid getuid geteuid getgid getegid getrandom uname sysinfo getcpu
    getrlimit exit exit_group
    """.split()
LAST_CLOCK = 11  # CLOCK_TAI; what is above, or negative, is the processor time of a process by its number
FILE_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_DUMPABLE = 1, 38, 39, 24, 4
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x40000000
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """Bounds of one job: memory in bytes beyond what the warm parent holds, CPU seconds, bytes of files it maps."""

    memory: int
    cpu_seconds: int
    files: int = 0

    def of(self, held: int, mapped: int) -> dict[int, int]:
        """Every limit by its number in `resource`, for a process that holds and maps so many bytes already."""
        return {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_CPU: self.cpu_seconds,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_NOFILE: 32,
            resource.RLIMIT_NPROC: 0,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_DATA: held + self.memory,
            resource.RLIMIT_AS: mapped + self.memory + self.files,  # shared memory is not data
        }


class Thread(Protocol):
    """A thread that does what it is asked."""

    def ask(self, function: Callable[[], Any]) -> None: ...

    def answer(self) -> Any: ...


def confine(
    limits: Limits, *, datasite_user: int, begin: Callable[[], Sequence[Thread]] = lambda: ()
) -> dict[str, bool]:
    """Give up all that this process can give up, and say for each of `PROTECTIONS` whether it holds, in every thread.

    Args:
      begin: begins the threads that this process will have beside this one; no other may be there.
    """
    was_root = os.geteuid() == 0
    sizes = _sizes()
    _set_limits(limits, sizes, but=resource.RLIMIT_NPROC)
    users = os.getresuid()  # in a namespace of its own a process sees itself as another
    _leave_namespaces(was_root)
    if was_root:
        _become_nobody(0)
    else:
        _drop_capabilities()  # a user namespace of one's own comes with all of them
    _take_no_privileges()
    _close_file_system()
    threads = begin()
    bounds = _set_limits(limits, sizes)
    if was_root:
        # Entirely only now, and all threads: who becomes a user that has too many processes may start no program.
        _become_nobody(NOBODY)
        users = os.getresuid()
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    user = os.getresuid()
    holds = _in_every_thread(lambda: _given_up(user), threads)
    holds["own_user"] &= not {0, datasite_user} & set(users)
    holds["limits"] = all(0 <= resource.getrlimit(which)[1] <= bound for which, bound in bounds.items())
    filtered = _allow_calls()
    holds |= _in_every_thread(_refusals, threads)
    holds["system_calls"] &= filtered
    return {name: holds[name] for name in PROTECTIONS}


def _in_every_thread(probe: Callable[[], dict[str, bool]], threads: Sequence[Thread]) -> dict[str, bool]:
    holds = probe()
    for thread in threads:
        thread.ask(probe)
        there = thread.answer()
        holds = {name: held and there[name] for name, held in holds.items()}
    return holds


def _given_up(user: tuple[int, int, int]) -> dict[str, bool]:
    """What each thread has of its own; the filter takes away these questions too."""
    return {
        "no_new_privileges": _libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
        "no_capabilities": _capabilities_are_empty(),
        "own_user": os.getresuid() == user,
    }


def _refusals() -> dict[str, bool]:
    """Whether what is forbidden is refused to this thread."""
    return {
        "no_network": _refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
        "no_files": _refused(lambda: os.open("/etc/passwd", os.O_RDONLY))
        and _refused(lambda: os.open("/", os.O_RDONLY)),
        "no_new_processes": _refused(_fork_and_leave),
        "no_signals": _refused(lambda: os.kill(os.getppid(), 0)),
        "system_calls": _refused(lambda: os.getsid(0)),  # which is on no list, and harms nobody
    }


def close_descriptors(keep: set[int]) -> None:
    """Close every inherited file but `keep`; standard streams become /dev/null."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = most if most != resource.RLIM_INFINITY else 1 << 20
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, most)


def end_with_parent(on: bool) -> None:
    """Have the kernel kill this process once the process that forked it is gone, or not any more."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL if on else 0, 0, 0, 0)


def _sizes() -> tuple[int, int]:
    """Bytes of data and stack, and of everything that is mapped."""
    with open("/proc/self/statm", "rb") as file:
        pages = [int(count) * resource.getpagesize() for count in file.read().split()]
    return pages[5], pages[0]


def _set_limits(limits: Limits, sizes: tuple[int, int], *, but: int | None = None) -> dict[int, int]:
    bounds = limits.of(*sizes)
    for which, bound in bounds.items():
        if which == but:
            continue
        hard = resource.getrlimit(which)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(which, (bound, bound))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    return bounds


def _leave_namespaces(was_root: bool) -> None:
    flags = NEWNET | NEWIPC | NEWUTS | NEWNS
    if was_root and _libc.unshare(flags) == 0:
        return
    if _libc.unshare(NEWUSER | flags) != 0:  # refused in some containers; the call filter stands alone then
        _libc.unshare(NEWNET)


def _drop_capability_bounds() -> None:
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 and ctypes.get_errno() == errno.EINVAL:
            break


def _become_nobody(real: int) -> None:
    """Be nobody, in every thread of the process; with root as its real user it can be asked once more."""
    if os.geteuid() == 0:
        _drop_capability_bounds()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(real, NOBODY, NOBODY)


def _take_no_privileges() -> None:
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _capabilities_are_empty() -> bool:
    # Three words each for effective, permitted and inheritable; version 3 has two such blocks.
    data = (ctypes.c_uint32 * 6)()
    return _libc.capget(_capability_header(), ctypes.byref(data)) == 0 and not any(data)


def _drop_capabilities() -> None:
    _drop_capability_bounds()
    _libc.capset(_capability_header(), ctypes.byref((ctypes.c_uint32 * 6)()))


def _capability_header() -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 2)(0x20080522, 0)


def _close_file_system() -> None:
    abi = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return
    # Files; binding and connecting TCP; signals and abstract sockets. Each ABI reads as many words as it knows.
    words = [LANDLOCK_RIGHTS_BY_ABI[min(abi, 5)], 3, 3][: 1 + (abi >= 4) + (abi >= 6)]
    rights = (ctypes.c_uint64 * len(words))(*words)
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(rights), ctypes.sizeof(rights), 0)
    if ruleset >= 0:
        _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)


def _allow_calls() -> bool:
    if pyseccomp is None:
        return False
    calls = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(errno.EPERM))
    calls.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # the C library then tries clone, which is refused
    for name in ALLOWED_CALLS:
        try:
            calls.add_rule(pyseccomp.ALLOW, name)
        except (OSError, ValueError):  # this kernel or architecture has no such call
            continue
    own, clock = pyseccomp.Arg(0, pyseccomp.EQ, 0), pyseccomp.Arg(0, pyseccomp.LE, LAST_CLOCK)
    for name in ("sched_getaffinity", "sched_getparam", "sched_getscheduler"):
        calls.add_rule(pyseccomp.ALLOW, name, own)
    for name in ("clock_gettime", "clock_getres", "clock_nanosleep"):
        calls.add_rule(pyseccomp.ALLOW, name, clock)
    calls.add_rule(pyseccomp.ALLOW, "prlimit64", own, pyseccomp.Arg(2, pyseccomp.EQ, 0))
    for command in FILE_COMMANDS:
        calls.add_rule(pyseccomp.ALLOW, "fcntl", pyseccomp.Arg(1, pyseccomp.EQ, command))
    try:
        calls.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)  # into all threads of this process, or none
        calls.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)  # by default one thread, and others wait
        calls.load()
    except (OSError, ValueError, RuntimeError):
        return False
    return True


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return True
    return False


def _fork_and_leave() -> None:
    if os.fork() == 0:
        os._exit(0)
