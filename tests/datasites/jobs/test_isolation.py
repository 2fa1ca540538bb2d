"""Bounds of a job and the files that it inherits; what each layer forbids is tried in tests/attacks/runner."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from datasites.jobs.isolation import ALLOWED_CALLS, FILE_COMMANDS, PROTECTIONS, Limits

BOUNDS = Limits(memory=1000, cpu_seconds=7).of(held=20, mapped=300)


def test_memory_is_counted_beyond_what_the_parent_holds() -> None:
    assert BOUNDS[resource.RLIMIT_DATA] == 1020
    assert BOUNDS[resource.RLIMIT_AS] == 1300
    assert BOUNDS[resource.RLIMIT_CPU] == 7


def test_a_job_may_make_no_file_no_process_and_no_core() -> None:
    for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK):
        assert BOUNDS[which] == 0


def test_calls_that_reach_files_or_processes_are_not_on_the_list() -> None:
    forbidden = "open openat openat2 socket connect fork clone clone3 execve kill ptrace prlimit64 mount unshare ioctl"
    assert not set(forbidden.split()) & set(ALLOWED_CALLS)
    assert len(set(ALLOWED_CALLS)) == len(ALLOWED_CALLS)
    assert 8 not in FILE_COMMANDS  # F_SETOWN, by which the kernel signals another process


def test_each_protection_is_explained_where_it_is_made() -> None:
    from datasites.jobs import isolation

    assert isolation.__doc__ is not None
    assert all(f"    {name} " in isolation.__doc__ for name in PROTECTIONS)


@pytest.mark.process
def test_every_inherited_file_but_one_is_closed() -> None:
    """In a process of its own, since its standard streams go too."""
    program = (
        "import json, os\n"
        "from datasites.jobs.isolation import close_descriptors\n"
        "said = os.dup(1)\n"
        "others = [os.open('/etc/passwd', os.O_RDONLY) for _ in range(3)]\n"
        "close_descriptors({said})\n"
        "open_now = sorted(int(name) for name in os.listdir('/proc/self/fd'))\n"
        "streams = {os.readlink(f'/proc/self/fd/{stream}') for stream in (0, 1, 2)}\n"
        "alive = [number for number in others if number in open_now]\n"
        "os.write(said, json.dumps([sorted(streams), said in open_now, alive, len(open_now)]).encode())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    streams, kept, others, count = json.loads(done.stdout)
    assert streams == [os.devnull]
    assert kept
    # The listing's own file takes the lowest number that is free, which was the first other's.
    assert len(others) <= 1
    assert count == 5
