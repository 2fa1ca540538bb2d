"""A whole study over a dial-out beside the same one over HTTP, and what the dial-out's process takes."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS, STEPS, EPSILON = 3, 40, 0.25
CALLS, IDLE_SECONDS = 100, 20.0
WAYS = ("HTTP", "sealed, coordinator in this process", "sealed, coordinator that stands")


@dataclass(frozen=True)
class Found:
    """Medians in seconds by way: of a small call, and of a study from `connect` to its result without the owner's part.

    Args:
      ratios: of a study's seconds, over HTTP's in the same turn.
    """

    calls: dict[str, float]
    studies: dict[str, float]
    ratios: dict[str, float]
    resident_mb: float
    idle_processor_seconds_a_minute: float
    processor_seconds_a_call: float


def compare(turns: int) -> Found:
    """Studies by all ways, in turn, at one datasite that is reached by each."""
    calls: dict[str, list[float]] = {way: [] for way in WAYS}
    studies: dict[str, list[float]] = {way: [] for way in WAYS}
    with _network() as (networks, datasite, dial_out, state):
        for turn in range(turns + 1):
            for way in WAYS:
                taken = _study(networks[way], datasite, state / f"{turn}-{WAYS.index(way)}", f"flu-{turn}-{way[-4:]}")
                if turn:  # the first is to warm up
                    studies[way].append(taken)
        reached = {way: _connected(networks[way]).datasites["Rural"] for way in WAYS}
        for _ in range(CALLS):
            for way in WAYS:
                begin = time.perf_counter()
                reached[way].describe()
                calls[way].append(time.perf_counter() - begin)
        before = _processor_seconds(dial_out)
        for _ in range(CALLS):
            reached[WAYS[2]].describe()
        between = _processor_seconds(dial_out)
        time.sleep(IDLE_SECONDS)
        idle = _processor_seconds(dial_out) - between
        resident = int(Path(f"/proc/{dial_out}/status").read_text().partition("VmRSS:")[2].split()[0])
    direct = studies[WAYS[0]]
    return Found(
        {way: statistics.median(taken) for way, taken in calls.items()},
        {way: statistics.median(taken) for way, taken in studies.items()},
        {
            way: statistics.median(mine / other for mine, other in zip(taken, direct, strict=True))
            for way, taken in studies.items()
        },
        resident / 1024,
        idle * 60 / IDLE_SECONDS,
        (between - before) / CALLS,
    )


@contextmanager
def _network() -> Iterator[tuple[dict[str, Any], Any, int, Path]]:
    """One datasite, its two dial-outs, and its network file for each way; the process of the second dial-out."""
    from tests.e2e.test_dial_out import CoordinateProcess, words_at
    from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, free_port, make_datasite
    from tests.relays.connections import DialOutProcess, make_certificates

    with tempfile.TemporaryDirectory() as name, ExitStack() as ending:
        base = Path(name)
        make_datasite(base / "datasite")
        datasite = DatasiteProcess(base / "datasite", base / "datasite").start()
        ending.callback(datasite.stop)
        certificates = make_certificates(base / "certificates")
        account = f'email = "{RESEARCHER}"\npassword_file = "password.txt"\n'
        (base / "password.txt").write_text(PASSWORD)
        here, elsewhere = free_port(), free_port()
        via = f'[[datasites]]\nname = "Rural"\nvia = "coordinator"\nwords = "{words_at(datasite)}"\n{account}'
        texts = (
            f'[[datasites]]\nname = "Rural"\nurl = "{datasite.url}"\n{account}',
            _table(
                listen=f"127.0.0.1:{here}",
                certificate="certificates/coordinator.pem",
                key="certificates/coordinator.key",
            )
            + via,
            _table(address=f"localhost:{elsewhere}", ca_file="certificates/ca.pem", token_file="certificates/token")
            + via,
        )
        files = {way: base / f"network-{number}.toml" for number, way in enumerate(WAYS)}
        for way, text in zip(WAYS, texts, strict=True):
            files[way].write_text(text)
        coordinate = CoordinateProcess(certificates, files[WAYS[2]], elsewhere).start()
        ending.callback(coordinate.kill)
        dialled = [
            DialOutProcess(datasite.directory, f"localhost:{port}", certificates / "ca.pem").start()
            for port in (here, elsewhere)
        ]
        for dial_out in dialled:
            ending.callback(dial_out.stop)
        for way in WAYS:
            _connected(files[way])
        process = dialled[1].process
        assert process is not None
        yield files, datasite, process.pid, base / "studies"


def _table(**fields: str) -> str:
    return "[coordinator]\n" + "".join(f'{name} = "{value}"\n' for name, value in fields.items())


def _connected(network: Path) -> Any:
    import researcher

    return researcher.connect(network)


def _study(network: Path, datasite: Any, state: Path, name: str) -> float:
    """Seconds of a study, from `connect` to its result, without the owner's part."""
    import researcher
    from policies.privacy.mechanisms import DPSGD
    from tests.relays.models import FluPredictor

    training = DPSGD(
        loss="binary_cross_entropy",
        rounds=ROUNDS,
        steps=STEPS,
        sampling_rate=0.1,
        clipping_norm=1.0,
        epsilon=EPSILON,
        learning_rate=1.0,
    )
    begin = time.perf_counter()
    cohort = _connected(network).dataset("flu")
    study = researcher.Study(name, cohort, FluPredictor, training, state=state, progress=False, purpose="To measure.")
    study.submit()
    asked = time.perf_counter() - begin
    datasite.approve_all()
    begin = time.perf_counter()
    study.wait_for_approval(timeout=60)
    study.run(min_train_nodes=1)
    return asked + time.perf_counter() - begin


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
