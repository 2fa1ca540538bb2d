"""The demonstration: Alice, Bob and 998 others tell their team its mean heart rate, and nobody their own.

Alice's and Bob's devices are processes with a ledger on disk; the others are simulated in this process, each with a
ledger of its own. All of them answer by the same code. The heart rates are made up.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from policies.errors import InvalidRequest
from policies.secure_sums.committee import Work
from researcher.devices.device import Device
from researcher.devices.ledger import SimulatedLedger
from researcher.devices.process import READINGS
from researcher.devices.report import Answering, DeviceReport, DeviceResult, question_text
from researcher.devices.simulated import SharedWork
from researcher.state import replace_file

COLUMN, BOUNDS = "heart_rate", (40, 200)
REAL = ("Alice", "Bob")
BUDGET = 2.0
FEWEST, MOST = 2, 20_000


@dataclass(frozen=True)
class Told:
    """What the demonstration came to, beside what it made up: the true mean and variance, which no real team has."""

    result: DeviceResult
    mean: float
    variance: float
    seconds: float


def report_of(devices: int, *, epsilon: float, shared_noise: bool) -> DeviceReport:
    """The question of a team of so many. Raises `InvalidRequest` outside [2, 20,000]."""
    if not FEWEST <= devices <= MOST:
        raise InvalidRequest(f"devices={devices:,} is outside [{FEWEST}, {MOST:,}]. Choose 1,000.")
    return DeviceReport([COLUMN], {COLUMN: BOUNDS}, epsilon, name="A team's heart rates", shared_noise=shared_noise)


def demonstrate(report: DeviceReport, devices: int, directory: Path) -> Told:
    """Make up a team of so many, with the first two as processes under `directory`, and ask them."""
    began = time.monotonic()
    team = random.Random(len(REAL) * devices)  # who they are; the noise is the operating system's
    rates = [round(min(max(team.gauss(74, 11), 45), 180), 1) for _ in range(devices)]
    names = [*REAL, *(f"device {number:05d}" for number in range(3, devices + 1))]
    work = SharedWork() if report.shared_noise else None
    with ExitStack() as running:
        answering: dict[str, Callable[[str], str]] = {}
        for name, rate in zip(names, rates, strict=True):
            if name in REAL:
                place = directory / name
                write_reading(place, rate)
                answering[name] = running.enter_context(process_of(place, budget=BUDGET))
            else:
                answering[name] = simulated(rate, work=work).answer
        if report.shared_noise:
            _accept(report, answering, directory)
        result = report.run(answering)
    return Told(result, statistics.fmean(rates), statistics.pvariance(rates), time.monotonic() - began)


def simulated(rate: float, *, budget: float = BUDGET, work: Work | None = None) -> Device:
    """A device in this process that has one heart rate; `work` where it shares with others what is the same for all."""
    return Device(lambda: {COLUMN: rate}, SimulatedLedger(budget=budget), work=work)


def write_reading(place: Path, rate: float) -> None:
    """What a real device's own program writes: its person's number."""
    place.mkdir(parents=True, exist_ok=True)
    replace_file(place / READINGS, json.dumps({COLUMN: rate}).encode())


@contextmanager
def process_of(place: Path, *, budget: float) -> Iterator[Callable[[str], str]]:
    """A device as a process of its own, in a directory; asked by texts, a line each."""
    command = [sys.executable, "-m", "researcher.devices.process", str(place), "--budget", str(budget)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    into, out = process.stdin, process.stdout
    assert into is not None
    assert out is not None

    def ask(text: str) -> str:
        into.write(text + "\n")
        into.flush()
        if not (line := out.readline()):
            raise BrokenPipeError
        return line

    try:
        yield ask
    finally:
        into.close()
        process.wait()
        out.close()


def _accept(report: DeviceReport, answering: Mapping[str, Callable[[str], str]], directory: Path) -> None:
    """Each person accepts the roster of the sum that their device is in."""
    for question, members in report.circles(Answering(answering)):
        text = question_text(question)
        for name in members.values():
            if name in REAL:
                file = directory / name / "question.json"
                replace_file(file, text.encode())
                command = [sys.executable, "-m", "researcher.devices.process", str(directory / name), "--accept"]
                subprocess.run([*command, str(file)], check=True, stdout=subprocess.DEVNULL)
            else:
                answering[name].__self__.accept(text)  # type: ignore[attr-defined]
