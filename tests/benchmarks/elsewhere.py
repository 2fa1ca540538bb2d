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
from pathlib import Path
from typing import Any

import numpy as np

from datasites.engine.matrix import in_groups
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


def overhead(turns: int) -> list[tuple[int, float, float, int]]:
    """Of each number of records (0: a job without rows): ms here, ms elsewhere, bytes of its rows on the wire."""
    found = []
    for records in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            mine, theirs = multiprocessing.Pipe()
            machine = multiprocessing.get_context("fork").Process(
                target=_serve, args=(Path(folder), theirs, bool(records))
            )
            machine.start()
            port = mine.recv()
            found.append(_compared(Path(folder), port, records, turns))
            mine.send("end")
            machine.join()
    return found


def _compared(folder: Path, port: int, records: int, turns: int) -> tuple[int, float, float, int]:
    from datasites.jobs.elsewhere import JobMachine

    there = JobMachine("runner", f"127.0.0.1:{port}", folder / "datasite", folder / "datasite" / "runner.pem")
    pools = (
        JobPool({"runner": folder / "p.sock"}, start_parents=False),
        JobPool({}, start_parents=False, elsewhere={"runner": there}, records=records),
    )
    matrix = np.ones((records, COLUMNS))
    matrix[:, 0] = np.arange(records)
    times: tuple[list[float], list[float]] = ([], [])
    with PrivateRows(in_groups(matrix, 1)) as rows:
        for _ in range(turns):
            for pool, taken in zip(pools, times, strict=True):
                began = time.perf_counter()
                pool.run("runner", {"job": "train"}, b"w", seconds=60, largest=100, rows=rows if records else None)
                taken.append(time.perf_counter() - began)
    here, elsewhere = (1000 * statistics.median(taken) for taken in times)
    return records, here, elsewhere, Layout(COLUMNS).size(records) if records else 0
