"""What `datasite serve` takes from nothing until it serves: time, and processor time and memory of its processes."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.factories import DatasiteProcess, free_port, run_datasite

SECONDS = 300


@dataclass(frozen=True)
class Process:
    """One process of a datasite that serves; memory in MB.

    `share` is its proportional share (PSS): what it has alone, and of what several have each its part. `anonymous` is
    as much of that as no file has: libraries are there once for all datasites of a machine, and this once for each.
    """

    name: str
    seconds: float
    share: float
    anonymous: float


@dataclass(frozen=True)
class Start:
    """Seconds until the last of `together` datasites served, and the processes of the first."""

    together: int
    seconds: float
    processes: tuple[Process, ...]

    @property
    def processor_seconds(self) -> float:
        return sum(process.seconds for process in self.processes)

    @property
    def anonymous(self) -> float:
        return sum(process.anonymous for process in self.processes)

    @property
    def share(self) -> float:
        return sum(process.share for process in self.processes)


def started(together: int) -> Start:
    """Start so many empty datasites at once, each from nothing and with exporter and runner of its own."""
    with tempfile.TemporaryDirectory() as directory:
        made = [Path(directory) / f"{number}" for number in range(together)]
        for path in made:
            run_datasite("init", "--name", "A", "--port", str(free_port()), directory=path)
        datasites = [DatasiteProcess(path, path, cold=True) for path in made]
        begin = time.monotonic()
        try:
            for datasite in datasites:
                datasite.start(wait=False)
            for datasite in datasites:
                _wait_until_it_serves(datasite, begin + SECONDS)
            seconds = time.monotonic() - begin
            return Start(together, seconds, processes_of(datasites[0]))
        finally:
            for datasite in datasites:
                datasite.stop()


def _wait_until_it_serves(datasite: DatasiteProcess, deadline: float) -> None:
    assert datasite.process is not None
    while f" at {datasite.url}" not in datasite.log():
        if datasite.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"datasite serve did not come up:\n{datasite.log()}")
        time.sleep(0.02)


def processes_of(datasite: DatasiteProcess) -> tuple[Process, ...]:
    """The datasite itself, the program that its parents are forked from, and both parents."""
    assert datasite.process is not None
    serving = psutil.Process(datasite.process.pid)
    return tuple(measured(process, serving.pid) for process in (serving, *serving.children(recursive=True)))


def measured(process: psutil.Process, serving: int) -> Process:
    """One process; `serving` is the number of the datasite's own."""
    comm = Path(f"/proc/{process.pid}/comm").read_text().strip()
    name = "datasite" if process.pid == serving else comm if comm in ("exporter", "runner") else "zygote"
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    sizes = {name: int(size) / 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE)}
    times = process.cpu_times()
    return Process(name, times.user + times.system, sizes["Pss"], sizes["Pss_Anon"])
