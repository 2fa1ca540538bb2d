"""Which tests `make quick` runs: those that need no server, no browser and no program beside the tests themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

ROOMS = ("policies", "datasites", "researcher", "browser", "compose")
SERVERS = {"jobs", "chromium", "postgresql"}  # fixtures; whoever serves a datasite asks for the jobs that it runs
LONG = ("slow", "process", "nightly", "containers")
LOOKED_UP = ("ldconfig", "gcc", "cc", "ld", "objdump", "lscpu")  # how ctypes finds a library, and numpy a processor


def is_quick(item: pytest.Item) -> bool:
    """Whether a test is one of the quick ones: by its room, its fixtures and its marks."""
    _, room, *_ = item.nodeid.split("/")
    fixtures = set(getattr(item, "fixturenames", ()))
    return room in ROOMS and not fixtures & SERVERS and not any(item.get_closest_marker(mark) for mark in LONG)


@contextmanager
def starting_nothing() -> Iterator[None]:
    """Let a test that starts a program fail: a datasite, Chromium's driver, a Python."""
    start = subprocess.Popen.__init__

    def checked(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        command = [args] if isinstance(args, str | bytes) else [*map(str, args)]
        if Path(str(command[0]).split()[0]).name not in LOOKED_UP:
            self.returncode = 1  # which its destructor asks for
            raise AssertionError(f"A quick test starts {command}. Mark it slow or process, or do without.")
        start(self, args, *rest, **options)

    with mock.patch.object(subprocess.Popen, "__init__", checked):
        yield
