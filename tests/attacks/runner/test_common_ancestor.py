"""Exporter and runner are forks of one program: neither has anything of the other, of the datasite, or of its noise."""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.jobs import pool as pool_module
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import KINDS, JobPool
from datasites.vault.private_rows import PrivateRows
from policies.privacy.mechanisms import Query, as_dict
from policies.release.tensors import to_bytes
from tests.attacks.runner.hostile_zygote import WAYS, reach
from tests.policies.plan_factories import SCHEMA, plan_of, statistics, training

SECRET = secrets.token_hex(16)
FORKS, CHILDREN = 3, 12


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobPool]:
    """A pool whose zygote drew from every generator; this process, which started it, has a secret in two places."""
    directory = tmp_path_factory.mktemp("pool")
    (directory / "signing.key").write_text(SECRET)
    begin = subprocess.Popen

    def hostile(command: list[str], **options: Any) -> Any:
        return begin([*command[:2], "tests.attacks.runner.hostile_zygote", *command[3:]], **options)

    made = JobPool({kind: directory / f"{kind}.sock" for kind in KINDS})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module.subprocess, "Popen", hostile)
        patch.setenv("DATASITE_DATABASE_PASSWORD", SECRET)
        made.start()
        yield made
        made.stop()


def forks(pool: JobPool) -> dict[str, int]:
    """Processes by what they are: the zygote and both parents."""
    assert pool._zygote is not None
    zygote = pool._zygote.pid
    parents = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    return {"zygote": zygote} | {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in parents}


def has_in_memory(pid: int, text: bytes) -> bool:
    """Whether a text lies anywhere in what a process may write to, its stack and environment included."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not found:
                continue
            begin, end = (int(part, 16) for part in found.groups())
            kept = b""
            while begin < end:
                memory.seek(begin)
                try:
                    part = memory.read(min(1 << 24, end - begin))
                except OSError:  # a guard page
                    break
                if not part or text in kept + part:
                    if part:
                        return True
                    break
                kept, begin = part[-len(text) :], begin + len(part)
    return False


@pytest.mark.slow
def test_nothing_that_the_datasite_knows_lies_in_the_memory_of_either_or_of_what_they_come_from(pool: JobPool) -> None:
    pool.run("exporter", {"job": "probe"}, seconds=60)
    assert has_in_memory(os.getpid(), SECRET.encode())
    processes = forks(pool)
    assert set(processes) == {"zygote", *KINDS}
    for name, pid in processes.items():
        assert has_in_memory(pid, b"datasites.jobs"), name  # so that looking finds what is there
        assert not has_in_memory(pid, SECRET.encode()), name


@pytest.mark.slow
def test_neither_has_an_open_file_of_the_other_or_of_what_they_come_from(pool: JobPool) -> None:
    """At whose input a parent could ask for others, and at whose output it could speak for the other."""
    pool.run("runner", {"job": "probe"}, seconds=60)
    opened = {name: _pipes_and_sockets(pid) for name, pid in forks(pool).items()}
    own = {os.readlink(f"/proc/{forks(pool)['zygote']}/fd/{stream}") for stream in (0, 1)}
    assert own <= opened["zygote"]
    assert not own & (opened["exporter"] | opened["runner"])
    assert not opened["exporter"] & opened["runner"]


def _pipes_and_sockets(pid: int) -> set[str]:
    files = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return {name for name in files if name.startswith(("pipe:", "socket:"))}


@pytest.mark.slow
def test_a_job_of_the_exporter_reaches_nothing_of_the_runner(pool: JobPool) -> None:
    """It knows where things lie there, as both are forks of one; and can use it for nothing."""
    aim = {
        "runner": forks(pool)["runner"],
        "address": _somewhere(forks(pool)["runner"]),
        "socket": str(pool.sockets["runner"]),
        "secret": str(pool.sockets["runner"].parent / "signing.key"),
    }
    answer = pool.run("exporter", {"job": "reach", **aim}, seconds=60)
    assert answer.done, answer.output
    assert answer.message["reached"] == {}
    assert answer.protections == dict.fromkeys(PROTECTIONS, True)
    assert pool.run("runner", {"job": "probe"}, seconds=60).done  # nobody has stopped it


def _somewhere(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "[heap]" in line)
    return int(line.split("-")[0], 16)


def test_whoever_is_not_confined_reaches_it_in_every_one_of_these_ways(tmp_path: Path) -> None:
    """So each of them is one."""
    buffer = ctypes.create_string_buffer(b"x" * 16)
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        (tmp_path / "secret").write_text(SECRET)
        target = os.fork()
        if target == 0:
            time.sleep(60)
            os._exit(0)
        try:
            aim = {
                "runner": target,
                "address": ctypes.addressof(buffer),
                "socket": str(tmp_path / "socket"),
                "secret": str(tmp_path / "secret"),
            }
            assert set(reach(aim, b"")[0]["reached"]) == set(WAYS)
        finally:
            os.kill(target, signal.SIGKILL)
            os.waitpid(target, 0)


# All records of everybody are used: what differs between two answers of statistics is python-dp's noise alone.
NOISE_ALONE = statistics(queries=(Query("count"), Query("histogram", ("age",))), records_per_patient=20)


@pytest.mark.slow
@pytest.mark.parametrize("made", [training(steps=1), NOISE_ALONE], ids=["train", "statistics"])
def test_children_of_runners_that_are_forks_of_a_program_that_drew_all_draw_differently(
    pool: JobPool, made: Any
) -> None:
    """The first child of one runner has the state of every generator that the first child of the next one has."""
    plan = plan_of(made)
    job = {
        "job": made.kind if made.kind == "statistics" else "train",
        "plan": plan.as_dict(),
        "mechanism": as_dict(plan.mechanism),
        "schema": SCHEMA.as_dict(),
        "training_patients": 100,
    }
    weights = (
        to_bytes({parameter.name: np.zeros(parameter.shape, np.float32) for parameter in plan.graph.parameters})
        if plan.graph
        else b""
    )
    rows, seen = PrivateRows(_rows()), set()
    for _ in range(FORKS):
        for _ in range(CHILDREN):
            answer = pool.run("runner", job, weights, seconds=60, rows=rows)
            assert answer.done, answer.output
            seen.add(answer.payload)
        os.kill(forks(pool)["runner"], signal.SIGKILL)
        time.sleep(0.5)
    rows.close()
    assert len(seen) == FORKS * CHILDREN


def _rows() -> Any:
    from datasites.vault.mocks import draw_mock

    return draw_mock(SCHEMA, 100)
