"""Small made-up tables, schemas and request sources, and real datasite processes on them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.warm import WarmProgram, warm

PASSWORD = "only for these tests"
RESEARCHER = "researcher@university.example"
OTHER = "other@university.example"

SCHEMA = """\
name = "flu"
population = "patients"
description = "Made-up visits"
patient = "patient"
target = "influenza"
holdout = 0.25

[columns.age]
kind = "integer"
unit = "years"
minimum = 0
maximum = 100

[columns.temperature]
kind = "real"
unit = "degC"
minimum = 34.0
maximum = 42.0

[columns.cough]
kind = "boolean"

[columns.onset]
kind = "boolean"

[columns.influenza]
kind = "boolean"
"""

MODEL = """\
    class FluPredictor(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1 = nn.Linear(4, 8)
            self.layer2 = nn.Linear(8, 1)

        def forward(self, x):
            return torch.sigmoid(self.layer2(torch.relu(self.layer1(x))))
"""


def training_source(name: str = "flu_round", *, rounds: int = 3, epsilon: float = 2.0, note: str = "") -> str:
    """The source of a request that trains `FluPredictor`, as a researcher would write it."""
    return (
        f"def {name}(records, weights, round):\n"
        f'    """Train a small model.{note}"""\n'
        "    import torch\n    from torch import nn\n    from datasites.mechanisms import dp_sgd\n\n"
        f"{MODEL}\n"
        "    return dp_sgd(FluPredictor, records, weights, round, loss='binary_cross_entropy',\n"
        f"                  rounds={rounds}, steps=5, sampling_rate=0.2, clipping_norm=1.0, epsilon={epsilon},\n"
        "                  learning_rate=1.0)\n"
    )


SLOW = """\
            hidden = torch.relu(self.layer1(x))
            pairs = hidden.unsqueeze(-1) * hidden.unsqueeze(-2)
            for _ in range(48):
                pairs = torch.tanh(pairs)
            return torch.sigmoid(self.layer2(hidden + pairs.mean(-1)))
"""


def slow_training_source(name: str = "flu_round", *, rounds: int = 1, epsilon: float = 1.0) -> str:
    """The source of a request whose rounds take seconds, to be caught in the act: a heavy step, thousands of times."""
    source = training_source(name, rounds=rounds, epsilon=epsilon).replace("steps=5", "steps=6_000")
    return source.replace("            return torch.sigmoid(self.layer2(torch.relu(self.layer1(x))))\n", SLOW)


def statistics_source(name: str = "flu_counts", *, epsilon: float = 0.2) -> str:
    """The source of a request for a count and a mean."""
    return (
        f"def {name}(records, round):\n    from datasites.mechanisms import statistics\n\n"
        f"    return statistics(records, round, count=True, mean='temperature', epsilon={epsilon})\n"
    )


def cohort_source(name: str = "flu_cohort", *, epsilon: float = 0.2) -> str:
    """The source of a request for a cohort by groups: a count, a mean with its number, what is missing, a column."""
    return (
        f"def {name}(records, round):\n    from datasites.mechanisms import statistics\n\n"
        "    return statistics(records, round, count=True, mean='temperature', quantiles={'age': [0.5]},\n"
        "                      missing='temperature', describe=['age', 'cough'], bins=5,\n"
        "                      where='age >= 18 and temperature > 36.5', group_by={'influenza': [], 'age': [65]},\n"
        f"                      records_per_patient=2, epsilon={epsilon})\n"
    )


def survival_source(name: str = "flu_alive", *, epsilon: float = 0.2) -> str:
    """The source of a request for survival by group, of a cohort."""
    return (
        f"def {name}(records, round):\n    from datasites.mechanisms import kaplan_meier\n\n"
        "    return kaplan_meier(records, round, time='age', event='influenza', by='cough', bins=10,\n"
        f"                        where='temperature > 36.5', epsilon={epsilon})\n"
    )


def regression_source(name: str = "flu_fitted", *, epsilon: float = 0.5) -> str:
    """The source of a request for a logistic regression, of a cohort."""
    return (
        f"def {name}(records, round):\n    from datasites.mechanisms import regression\n\n"
        "    return regression(records, round, outcome='influenza', family='binomial',\n"
        "                      terms=['temperature', 'cough', 'temperature * cough'],\n"
        f"                      where='age >= 18', epsilon={epsilon})\n"
    )


def initial_weights() -> dict[str, Any]:
    """Weights of `FluPredictor`, all small and different."""
    import torch

    generator = torch.Generator().manual_seed(7)
    shapes = {"layer1.weight": (8, 4), "layer1.bias": (8,), "layer2.weight": (1, 8), "layer2.bias": (1,)}
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def write_table(path: Path, *, patients: int = 400, seed: int = 1) -> Path:
    """A CSV of made-up visits, one or two for each patient."""
    draw = random.Random(seed)
    lines = ["patient,age,temperature,cough,onset,influenza"]
    for number in range(patients):
        sick = draw.random() < 0.4
        for _ in range(draw.choice((1, 1, 2))):
            temperature = min(41.9, max(34.1, draw.gauss(38.6 if sick else 37.0, 0.6)))
            cough, onset = draw.random() < (0.8 if sick else 0.3), draw.random() < (0.7 if sick else 0.2)
            values = (f"p{number}", draw.randint(0, 100), f"{temperature:.1f}", int(cough), int(onset), int(sick))
            lines.append(",".join(str(value) for value in values))
    path.write_text("\n".join(lines) + "\n")
    return path


def free_port() -> int:
    """A port of loopback that is free, and that nobody is likely to take before a server does.

    The kernel gives connections ports from 32768 on; among those below, two workers hardly ever draw the same one.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def run_datasite(
    *arguments: str, directory: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the `datasite` command as an owner would."""
    extra = ["--dir", str(directory)] if directory is not None else []
    done = subprocess.run(
        [sys.executable, "-m", "datasites", *arguments, *extra],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "COLUMNS": "200"},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"datasite {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return done


def make_datasite(directory: Path, *, jobs: Path | None = None) -> None:
    """A datasite directory with one published table and two researchers."""
    scratch = directory.parent
    password = scratch / "password.txt"
    password.write_text(PASSWORD)
    (scratch / "schema.toml").write_text(SCHEMA)
    write_table(scratch / "visits.csv")
    files = ("--password-file", str(password))
    run_datasite("init", "--name", "Test Hospital", "--email", "owner@hospital.example", *files, directory=directory)
    table = (str(scratch / "visits.csv"), "--schema", str(scratch / "schema.toml"), "--patients", "400")
    server = DatasiteProcess(
        directory, directory, jobs=jobs
    ).start()  # commands reach it in a moment; alone each starts PySyft
    try:
        server.cli("publish", *table)
        for email in (RESEARCHER, OTHER):
            server.cli("researchers", "add", email, "--name", "Some Body", *files)
    finally:
        server.stop()


class DatasiteProcess:
    """`datasite serve` on a copy of a made directory, in a process of its own.

    Args:
      jobs: where warm parents listen that several datasites share; None lets it start its own.
      program: run instead of `datasite serve`, with the directory as its argument (crash tests plant faults there).
      cold: start Python from nothing, as an operator does, and not from libraries that were imported before.
    """

    def __init__(
        self,
        made: Path,
        directory: Path,
        *,
        program: Path | None = None,
        jobs: Path | None = None,
        cold: bool = False,
    ) -> None:
        if made != directory:
            shutil.copytree(made, directory, ignore=shutil.ignore_patterns("*.sock"))
        self.directory = directory
        self.port = free_port()
        self.program = program
        self.cold = cold
        self.set(port=self.port, jobs_directory=str(jobs) if jobs else "")
        self.process: subprocess.Popen[bytes] | WarmProgram | None = None

    def set(self, **values: Any) -> None:
        """Change settings; they count from the next start on."""
        settings = self.directory / "settings.toml"
        lines = settings.read_text().splitlines()
        for name, value in values.items():
            lines = [line if not line.startswith(f"{name} ") else f"{name} = {json.dumps(value)}" for line in lines]
        settings.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> DatasiteProcess:
        """Start serving, and wait until `/healthz` answers."""
        command = ["-m", "datasites", "serve", "--dir"] if self.program is None else [str(self.program)]
        command.append(str(self.directory))
        with (self.directory / "serve.out").open("ab") as log:
            if self.cold:
                self.process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log)
            else:
                self.process = warm().start(command, stdout=log.fileno(), stderr=log.fileno())
        if wait:
            self.wait_until_healthy()
        return self

    def wait_until_healthy(self, seconds: float = 90) -> None:
        """Return when `/healthz` answers; fail with the log where the process ended."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"datasite serve ended:\n{self.log()}")
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"datasite serve did not become healthy:\n{self.log()}")

    def log(self) -> str:
        """What the process printed."""
        return (self.directory / "serve.out").read_text(errors="replace")

    def kill(self) -> None:
        """kill -9, and reap."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End as an operator would."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `datasite` command on this directory."""
        return run_datasite(*arguments, directory=self.directory, check=check)

    def json(self, *arguments: str) -> Any:
        """What a command answers with `--json`."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def approve_all(self) -> None:
        """Approve every request that waits."""
        for request in self.json("requests", "--status", "checked"):
            self.cli("approve", request["id"], "--yes")
