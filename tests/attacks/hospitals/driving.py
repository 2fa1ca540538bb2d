"""A researcher's whole day against one hospital: connect, check, submit, run, save; and what was wrong with it."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from rich.console import Console
from torch import Tensor, nn

import policies.graph.exporter as exporter
import researcher
import researcher.transport as transport
from policies.errors import DatasiteError
from policies.privacy.mechanisms import KaplanMeier, Regression
from policies.text import visible
from researcher.network import Network
from researcher.regression import RegressionStudy
from researcher.survival import SurvivalStudy
from tests.attacks.hospitals.hospital import Hospital
from tests.attacks.hospitals.payloads import Payload, Target
from tests.factories import PASSWORD, RESEARCHER

SECONDS = 10.0  # of an answer here, in the place of two minutes
DEADLINE = 2.0  # of a round
LONGEST = 30.0  # of a whole day on a busy machine
MOST_MEMORY = 300 << 20  # what a day may add to the process
ACTS = re.compile(r"\x1b\[2J|\x1b\[H|\x1b\]0;|[\u202a-\u202e\u2066-\u2069\u0007]")  # what a hospital's words would do

TRAINING = researcher.Training(
    loss="binary_cross_entropy",
    rounds=2,
    steps=4,
    sampling_rate=0.1,
    clipping_norm=1.0,
    epsilon=2.0,
    learning_rate=1.0,
)
SURVIVAL = KaplanMeier(time="age", event="influenza", by="cough", epsilon=1.0, bins=10)
REGRESSION = Regression(outcome="influenza", terms=("age", "cough"), family="binomial", epsilon=1.0)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(x).sigmoid()


def _training(flu: Any, state: Path, compression: str = "none") -> Any:
    return researcher.Study("small", flu, Small, replace(TRAINING, compression=compression), state=state)


STUDIES: dict[str, Callable[[Any, Path], Any]] = {
    "training": _training,
    "int8": functools.partial(_training, compression="int8"),
    "int4": functools.partial(_training, compression="int4"),
    "survival": lambda flu, state: SurvivalStudy(flu, SURVIVAL, name="small", state=state),
    "regression": lambda flu, state: RegressionStudy(flu, REGRESSION, name="small", state=state),
}


def network_of(hospital: Hospital, directory: Path) -> Network:
    """Connect as a researcher does, with a network file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "password").write_text(PASSWORD)
    (directory / "network.toml").write_text(
        f'[[datasites]]\nname = "general"\nurl = "{hospital.url}"\nemail = "{RESEARCHER}"\npassword_file = "password"\n'
    )
    return researcher.connect(directory / "network.toml")


def whole_day(hospital: Hospital, directory: Path, *, deadline: float = 20.0, asks: str = "training") -> str:
    """All that a researcher sees of one hospital, its refusals in our words included.

    The terminal is one that would obey: colours, cursor and titles reach it unless something stops them.
    """
    screen = io.StringIO()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            network = network_of(hospital, directory)
            screen.write(f"{network!r}\n")
            flu = network.dataset("flu")
            screen.write(f"{flu!r}\n{flu.mock}\n")
            study = STUDIES[asks](flu, directory / "state")
            study.progress._console = Console(file=screen, force_terminal=True, width=400, highlight=False)
            check = study.check()
            screen.write(f"{check}\n{check._repr_html_()}\n{study.submit()}\n")
            approved = study.wait_for_approval(timeout=5)
            screen.write(f"{approved}\n{approved._repr_html_()}\n")
            screen.write(f"{study.comments()}\n")
            result = study.run(deadline=deadline, grace=0.5)
            screen.write(f"{result!r}\n{getattr(result, '_repr_html_', str)()}\n")
            result.plot().savefig(io.BytesIO())
            if isinstance(result, researcher.Result):
                result.save(directory / "saved")
            else:
                screen.write(f"{result.to_frame()}\n")
                screen.write(result.report(directory / "saved.html").read_text())
    except DatasiteError as error:
        screen.write(f"Error: {visible(str(error), keep=chr(10))}\n")
    return screen.getvalue() + "".join(f"{warning.message}\n" for warning in warned)


AT_SIGN_IN = ("rebuilt/login", "rebuilt/login_key")  # what a stock client can be shown: it goes on by its own ways


def stock_sign_in(payload: Payload, mark: Path) -> bool:
    """Whether a payload's command runs where a stock PySyft client signs in at the hospital."""
    import syft

    hospital = Hospital()
    try:
        payload.spoil(hospital, Target(mark, hospital.url, SECONDS))
        about = {"metadata_version": 1, "syft_version": syft.__version__, "server_side_type": "high"}
        more = {"show_warnings": False, "min_size_blob_storage_mb": 1}
        hospital.values["metadata"] = lambda told: {**told, **about, **more}
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            syft.login(url=hospital.url, email=RESEARCHER, password=PASSWORD)
        return mark.exists()
    finally:
        hospital.stop()


@contextmanager
def quick() -> Iterator[None]:
    """Deadlines of seconds; and what the exporter gives is kept, since it is not what is attacked here."""
    kept = functools.cache(exporter.export_source)
    with patch.object(transport, "ANSWER_SECONDS", SECONDS), patch.object(exporter, "export_source", kept):
        yield


def measure(payload: Payload, directory: Path) -> list[str]:
    """What is wrong after a payload's day; empty where all of it went as it must."""
    _warm()
    hospital, elsewhere = Hospital(), Hospital()
    try:
        return _wrong(payload, hospital, elsewhere, directory)
    finally:
        hospital.stop()
        elsewhere.stop()


@functools.cache
def _warm() -> None:
    """An honest day, so that what a process loads and keeps on its first is not counted as a payload's."""
    hospital = Hospital()
    try:
        with TemporaryDirectory() as directory:
            whole_day(hospital, Path(directory))
    finally:
        hospital.stop()


def _wrong(payload: Payload, hospital: Hospital, elsewhere: Hospital, directory: Path) -> list[str]:
    home = directory / "home"
    target = Target(directory / "mark", elsewhere.url, SECONDS)
    for _ in range(payload.days - 1):
        whole_day(hospital, home, asks=payload.asks)
        shutil.rmtree(home / "state")
    payload.spoil(hospital, target)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    began, before = time.monotonic(), _memory("VmRSS")
    try:
        shown = whole_day(hospital, home, deadline=DEADLINE, asks=payload.asks)
    except Exception as error:
        return [f"{type(error).__name__} reached the researcher: {error}"]
    outside = [path.name for path in directory.iterdir() if path.name not in ("home", "mark")]
    wrong = {
        f"this was shown: {shown[-1500:]}": not re.search(payload.must, shown, re.DOTALL),
        "a command ran": target.mark.exists(),
        "another server was asked": bool(elsewhere.asked),
        "it took too long": time.monotonic() - began > LONGEST,
        "it took too much memory": _memory("VmHWM") - before > MOST_MEMORY,
        "something acts on the screen": bool(ACTS.search(shown)),
        f"files were written outside: {outside}": bool(outside),
    }
    return [what for what, holds in wrong.items() if holds]


def _memory(what: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) << 10
