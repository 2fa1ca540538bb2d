"""The same rounds of FedAvg with Flower's SuperLink and SuperNodes, and with datasites: over HTTP, and dialled.

All of it runs on loopback, and every byte between a hospital and the researcher's side passes a relay that counts. A
stock SuperNode runs whatever Python its submitter sends, as who started it, without privacy, review, confinement or a
ledger: what a datasite takes beside it is for these.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from tests.benchmarks.datasites import Machine, machine, measured_tree
from tests.benchmarks.starts import measured
from tests.factories import PASSWORD, RESEARCHER, free_port, write_table

ROUNDS, STEPS = 5, 20
SECONDS = 420.0


@dataclass(frozen=True)
class Way:
    """What rounds took.

    Args:
      first: seconds of the first round, in which things are loaded.
      round: of a later one, from one aggregate to the next; the median.
      kilobytes: of a round at a hospital, both ways: all that a run carries, over its rounds.
      megabytes: at a hospital, in all its processes, that no file has; the median.
    """

    name: str
    first: float
    round: float
    kilobytes: float
    megabytes: float


class Relay:
    """Passes TCP connections on to a port of loopback, and counts bytes both ways."""

    def __init__(self, target: int) -> None:
        self.target, self.count = target, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # nobody listens there yet, and who dials tries again
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
            back.start()
            self._pass(near, far)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                self.count += len(part)
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)


def compare(hospitals: int) -> Iterator[Way]:
    """All ways, one after another, each as soon as it is measured."""
    with machine(shared=False) as made:
        made.stand_up(hospitals)
        yield _direct(made)
        yield _dialled(made)
    yield _supernodes(hospitals)


# -- Flower's own ----------------------------------------------------------------------------------------------------


def _supernodes(hospitals: int) -> Way:
    with tempfile.TemporaryDirectory(prefix="flower-") as name, ExitStack() as ending:
        base, port = Path(name), free_port()
        _write_app(base)
        environment = {**os.environ, "FLWR_HOME": str(base / "home"), "FLWR_TELEMETRY_ENABLED": "0"}
        environment |= {"FLWR_DISABLE_UPDATE_CHECK": "1", "HOME": str(base), "PYTHONPATH": ""}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"

        def started(*command: str) -> subprocess.Popen[bytes]:
            log = ending.enter_context((base / "out").open("ab"))
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=base)
            ending.callback(_end, process)
            return process

        started(
            *("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)),
            "--disable-runtime-dependency-installation",
        )
        _wait_for(lambda: _listens(port), base / "out")
        relay = Relay(port)
        ending.callback(relay.stop)
        nodes = []
        for number in range(hospitals):
            table = write_table(base / f"visits-{number}.csv", seed=number)
            address = ("--superlink", f"127.0.0.1:{relay.port}", "--port", str(free_port()))
            nodes.append(started("flower-supernode", "--insecure", *address, "--node-config", f'table="{table}"'))
        (base / "home").mkdir(exist_ok=True)
        (base / "home" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        given = f'nodes={hospitals} rounds={ROUNDS} steps={STEPS} times="{base / "times"}"'
        began = relay.count
        asking = started("flwr", "run", str(base / "app"), "here", "--run-config", given)
        most = [0.0] * hospitals

        def done() -> bool:
            if asking.poll():
                raise AssertionError(
                    f"Flower did not take the app:\n{(base / 'out').read_text(errors='replace')[-3000:]}"
                )
            for number, node in enumerate(nodes):
                most[number] = max(most[number], _anonymous(node.pid))
            return (base / "times").exists() and bool((base / "times").read_text())

        _wait_for(done, base / "out")
        times = json.loads((base / "times").read_text())
        sent = (relay.count - began) / ROUNDS / hospitals / 1000
        first, *later = [after - before for before, after in pairwise(times)]
        return Way("Flower's SuperNode", first, statistics.median(later), sent, statistics.median(most))


def _write_app(base: Path) -> None:
    app = base / "app"
    app.mkdir()
    (app / "flower_app.py").write_bytes((Path(__file__).parent / "flower_app.py").read_bytes())
    (app / "pyproject.toml").write_text(
        '[project]\nname = "flu"\nversion = "1.0.0"\ndescription = "Flu"\nlicense = "Apache-2.0"\ndependencies = []\n\n'
        '[tool.flwr.app]\npublisher = "tests"\n\n'
        '[tool.flwr.app.components]\nserverapp = "flower_app:server"\nclientapp = "flower_app:client"\n\n'
        '[tool.flwr.app.config]\nnodes = 1\nrounds = 1\nsteps = 1\ntimes = ""\n'
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        for one in (process, *below):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _anonymous(pid: int) -> float:
    """MB of a process and all below it that no file has."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                total += measured(process, pid).anonymous
    return total


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(holds: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"Flower did not come so far:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.25)


# -- datasites -------------------------------------------------------------------------------------------------------


def _direct(made: Machine) -> Way:
    relays = [Relay(datasite.port) for datasite in made.standing]
    tables = [
        f'[[datasites]]\nname = "hospital-{number}"\nurl = "http://127.0.0.1:{relay.port}"\n'
        for number, relay in enumerate(relays)
    ]
    with _stopping(relays):
        return _studied(made, "direct", "a datasite, over HTTP", tables, relays)


def _dialled(made: Machine) -> Way:
    from tests.e2e.test_dial_out import words_at
    from tests.relays.connections import DialOutProcess, make_certificates, wait_until

    certificates, here = make_certificates(made.base / "certificates"), free_port()
    head = (
        f'[coordinator]\nlisten = "127.0.0.1:{here}"\ncertificate = "certificates/coordinator.pem"\n'
        'key = "certificates/coordinator.key"\n'
    )
    tables = [head] + [
        f'[[datasites]]\nname = "hospital-{number}"\nvia = "coordinator"\nwords = "{words_at(datasite)}"\n'
        for number, datasite in enumerate(made.standing)
    ]
    relays = [Relay(here) for _ in made.standing]
    dialled = [
        DialOutProcess(datasite.directory, f"localhost:{relay.port}", certificates / "ca.pem").start()
        for datasite, relay in zip(made.standing, relays, strict=True)
    ]
    try:
        with _stopping(relays):
            for dial_out in dialled:  # it is loaded by then, and tries again until the study's coordinator listens
                wait_until(lambda dial_out=dial_out: bool(dial_out.state()), dial_out.log)  # type: ignore[misc]
            more = [_anonymous(dial_out.process.pid) for dial_out in dialled if dial_out.process]
            return _studied(
                made, "dialled", "a datasite that dials out, over gRPC", tables, relays, statistics.median(more)
            )
    finally:
        for dial_out in dialled:
            dial_out.stop()


@contextmanager
def _stopping(relays: list[Relay]) -> Iterator[None]:
    try:
        yield
    finally:
        for relay in relays:
            relay.stop()


def _studied(
    made: Machine, study_name: str, name: str, tables: list[str], relays: list[Relay], more: float = 0.0
) -> Way:
    import researcher
    from tests.relays.models import FluPredictor

    (made.base / "password").write_text(PASSWORD)
    account = f'email = "{RESEARCHER}"\npassword_file = "password"\n'
    network = made.base / f"{study_name}.toml"
    network.write_text("".join(text + (account if "[[" in text else "") for text in tables))
    training = researcher.Training(
        loss="binary_cross_entropy",
        rounds=ROUNDS,
        steps=STEPS,
        sampling_rate=0.1,
        clipping_norm=1.0,
        epsilon=1.0,
        learning_rate=1.0,
    )
    flu = researcher.connect(network).dataset("flu")
    study = researcher.Study(
        study_name, flu, FluPredictor, training, state=made.base / study_name, progress=False, purpose="To measure."
    )
    study.submit()
    made.approve_all()
    study.wait_for_approval(timeout=SECONDS)
    began = sum(relay.count for relay in relays)
    result = study.run(deadline=SECONDS)
    sent = (sum(relay.count for relay in relays) - began) / ROUNDS / len(made.standing) / 1000
    first = max(result.rounds[0].answered.values())  # without what `run` does before it asks anybody
    closed = [
        (made.base / study_name / "rounds" / f"{number + 1:04d}.json").stat().st_mtime for number in range(ROUNDS)
    ]
    later = statistics.median(after - before for before, after in pairwise(closed))
    own = statistics.median(measured_tree(datasite)[0] for datasite in made.standing)
    return Way(name, first, later, sent, own + more)
