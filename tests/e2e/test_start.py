"""`datasite serve` as an operator starts it: it serves, or one line says why not and which setting would help."""

from __future__ import annotations

import multiprocessing
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.directory import locked
from tests.benchmarks import starts
from tests.factories import DatasiteProcess, free_port, run_datasite

TOGETHER = 4
SECONDS = 280  # for four on two loaded cores; alone it is ten


def make(directory: Path, **settings: object) -> Path:
    chosen = [f"--set={name}={value}" for name, value in settings.items()]
    run_datasite("init", "--name", "A", "--port", str(free_port()), *chosen, directory=directory)
    return directory


def refused(directory: Path) -> str:
    """What `serve` says where it does not serve: one line, on standard error alone, with an exit code."""
    done = run_datasite("serve", directory=directory, check=False)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    line, *more = [line for line in done.stderr.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)]
    assert more == []
    assert line.startswith("Error: ")
    return line


def test_a_port_that_is_taken_is_named_at_once_and_nothing_is_said_of_serving(tmp_path: Path) -> None:
    directory = make(tmp_path / "a")
    port = int(re.search(r"^port = (\d+)", (directory / "settings.toml").read_text(), re.MULTILINE)[1])  # type: ignore[index]
    with socket.create_server(("127.0.0.1", port)):
        said = refused(directory)
    assert f"Port {port} of 127.0.0.1 is taken by another program. Stop that one, or set another port in" in said
    assert not (directory / "datasite.out").exists()  # into which goes what is warmed: nothing was


def test_an_exporter_that_does_not_come_up_is_named_with_the_setting(tmp_path: Path) -> None:
    said = refused(make(tmp_path / "a", start_seconds=1))
    assert re.search(
        r"The exporter did not come up within start_seconds=1\. Raise start_seconds in settings\.toml", said
    )


def test_parents_that_run_elsewhere_and_do_not_are_named_with_the_setting(tmp_path: Path) -> None:
    said = refused(make(tmp_path / "a", start_seconds=1, jobs_directory=tmp_path / "nowhere"))
    assert re.search(r"No exporter listened at .*/nowhere/exporter/exporter\.sock within start_seconds=1\.", said)


def test_a_certificate_without_its_key_is_named_before_anything_starts(tmp_path: Path) -> None:
    directory = make(tmp_path / "a", tls_certificate="tls.pem", tls_key="tls.pem")
    (directory / "tls.pem").write_text("nothing")
    assert "are not a certificate and its key, both in PEM form" in refused(directory)


def test_a_second_serve_on_a_directory_is_told_of_the_first(datasite: DatasiteProcess) -> None:
    assert f"Another `datasite serve` serves {datasite.directory} at {datasite.url} already." in refused(
        datasite.directory
    )
    assert datasite.json("requests") == []


def test_a_command_that_has_the_directory_does_not_end_the_serve_that_starts_meanwhile(
    made_datasite: Path, tmp_path: Path, jobs: Path
) -> None:
    process = DatasiteProcess(made_datasite, tmp_path / "datasite", jobs=jobs)
    try:
        with locked(process.directory):
            process.start(wait=False)
            deadline = time.monotonic() + 60
            while "another command works on it" not in process.log():
                assert time.monotonic() < deadline, process.log()
                time.sleep(0.1)
            assert process.url not in process.log()
        process.wait_until_healthy()
        assert f"Test Hospital at {process.url}" in process.log()
    finally:
        process.stop()


@pytest.mark.slow
def test_a_start_is_of_four_processes_that_share_torch_and_the_one_with_the_keys_has_none(tmp_path: Path) -> None:
    """Bounds with room for a loaded machine; `make bench` prints what it is."""
    directory = make(tmp_path / "a")
    datasite = DatasiteProcess(directory, directory, cold=True).start()
    try:
        started = starts.processes_of(datasite)
        assert datasite.process is not None
        serving = Path(f"/proc/{datasite.process.pid}/maps").read_text()
    finally:
        datasite.stop()
    assert sorted(process.name for process in started) == ["datasite", "exporter", "runner", "zygote"]
    assert "libtorch" not in serving
    assert sum(process.anonymous for process in started) < 540  # MB; it was 840 of three programs
    assert (
        sum(process.seconds for process in started) < 20
    )  # of processors, which take twice as long where all are busy


@pytest.fixture
def load() -> Iterator[None]:
    """Other work on every core."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(multiprocessing.cpu_count())]
    yield
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("load")
@pytest.mark.timeout(2 * SECONDS)
def test_four_datasites_start_at_once_on_a_loaded_machine(made_datasite: Path, tmp_path: Path) -> None:
    """Each from nothing, with exporter and runner of its own."""
    started = time.monotonic()
    processes = [DatasiteProcess(made_datasite, tmp_path / f"{number}", cold=True) for number in range(TOGETHER)]
    try:
        for process in processes:
            process.start(wait=False)
        for process in processes:
            process.wait_until_healthy(SECONDS - (time.monotonic() - started))
        for process in processes:
            assert process.json("isolation")
        print(f"{TOGETHER} datasites served after {time.monotonic() - started:.0f} s.")
    finally:
        for process in processes:
            process.stop()
