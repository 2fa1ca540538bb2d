"""What a job takes longer on another machine: TLS, the greeting, and rows as a stream. Both machines are this one.

Warm parents are functions that answer at once, so that nothing but the way is measured.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from datasites.engine.matrix import in_groups
from datasites.jobs.elsewhere import JobMachine
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.pool import JobPool
from datasites.jobs.rows import Layout
from datasites.vault.private_rows import PrivateRows
from tests.machines import Pair, ready

COLUMNS = 12
SIZES = (0, 10_000, 100_000, 1_000_000)


def _answering(connection: socket.socket) -> None:
    """Answers at once; takes rows first where the job says that they come."""
    ready(connection)
    with_rows = connection.recv(1, socket.MSG_PEEK)
    if with_rows:
        _, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
        assert descriptor is not None
        os.close(descriptor)
    send_frame(connection, {"event": "done"}, b"tensors")


def _without_rows(connection: socket.socket) -> None:
    ready(connection)
    send_frame(connection, {"event": "done"}, b"tensors")


def _serve(directory: Path, said: Any, with_rows: bool) -> None:
    pair = Pair(directory, _answering if with_rows else _without_rows, rows_bytes=1 << 32)
    said.send(pair.port)
    said.recv()
    os._exit(0)


@dataclass(frozen=True)
class Found:
    """Of so many records (0: a job without rows): medians in ms, more processor ms of both sides, bytes on the wire."""

    records: int
    here: float
    elsewhere: float
    processor: float
    size: int


def overhead(turns: int) -> list[Found]:
    """What jobs take, by size."""
    found = []
    for records in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            mine, theirs = multiprocessing.Pipe()
            machine = multiprocessing.get_context("fork").Process(
                target=_serve, args=(Path(folder), theirs, bool(records))
            )
            machine.start()
            port = mine.recv()
            found.append(_compared(Path(folder), port, psutil.Process(machine.pid), records, turns))
            mine.send("end")
            machine.join()
    return found


def _compared(folder: Path, port: int, machine: psutil.Process, records: int, turns: int) -> Found:
    there = JobMachine("runner", f"127.0.0.1:{port}", folder / "datasite", folder / "datasite" / "runner.pem")
    pools = (
        JobPool({"runner": folder / "p.sock"}, start_parents=False),
        JobPool({}, start_parents=False, elsewhere={"runner": there}, records=records),
    )
    matrix = np.ones((records, COLUMNS))
    matrix[:, 0] = np.arange(records)
    times: tuple[list[float], list[float]] = ([], [])
    processor = [0.0, 0.0]
    with PrivateRows(in_groups(matrix, 1)) as rows:
        for _ in range(turns):
            for way, (pool, taken) in enumerate(zip(pools, times, strict=True)):
                began, used = time.perf_counter(), _used(machine)
                pool.run("runner", {"job": "train"}, b"w", seconds=60, largest=100, rows=rows if records else None)
                taken.append(time.perf_counter() - began)
                processor[way] += _used(machine) - used
    here, elsewhere = (1000 * statistics.median(taken) for taken in times)
    size = Layout(COLUMNS).size(records) if records else 0
    return Found(records, here, elsewhere, 1000 * (processor[1] - processor[0]) / turns, size)


def _used(machine: psutil.Process) -> float:
    """Processor seconds of this process and the machine's so far."""
    there = machine.cpu_times()
    return time.process_time() + there.user + there.system
