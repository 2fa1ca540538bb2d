"""A PostgreSQL cluster of the tests' own: as another user than root, on a Unix socket alone, with everything synced."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from datasites.ledger.copying import TABLE_NAMES
from datasites.ledger.database import Database
from datasites.ledger.ledger import Ledger

PASSWORD = "correct-horse-battery"
_schemas = itertools.count(1)


class Emptied(Database):
    """A database with a ledger that nothing was entered in: made once, and emptied for each test."""


class Cluster:
    """One server. `place()` is an empty schema in it."""

    def __init__(self, folder: Path, programs: str, as_other: list[str]) -> None:
        self.folder, self._programs, self._as_other = folder, programs, as_other
        self.url = f"postgresql://keeper@/postgres?host={folder}"
        self.password_file = folder / "password"
        self._emptied: Emptied | None = None

    def run(self, *command: str) -> None:
        """One of PostgreSQL's programs, as the server's user."""
        program = shutil.which(command[0], path=self._programs)
        called = [*self._as_other, str(program), *command[1:]]
        subprocess.run(called, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=60)

    def start(self, *settings: str) -> None:
        """Start it, with further settings as `name=value`."""
        options = " ".join(
            f"-c {setting}"
            for setting in (
                "listen_addresses=''",
                f"unix_socket_directories='{self.folder}'",
                "max_connections=300",
                *settings,
            )
        )
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self.run("pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """Stop it: `immediate` as a power cut does, `fast` as an operator does."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", how, "-w", "stop")

    def kill(self) -> None:
        """Stop it for good. No program is started for that: the session may end with a test that allows none."""
        pid_file = self.folder / "data" / "postmaster.pid"
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
        until = time.monotonic() + 60
        while pid_file.exists() and time.monotonic() < until:
            time.sleep(0.05)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the database's team."""
        return psycopg.connect(self.url, password=PASSWORD, autocommit=True)

    def place(self) -> Database:
        """A database for one ledger: a schema that nothing is in."""
        schema = f"ledger_{os.getpid()}_{next(_schemas)}"
        with self.connect() as team:
            team.execute(f"CREATE SCHEMA {schema}".encode())
        return Database(f"{self.url}&options=-csearch_path%3D{schema}", self.password_file)

    def emptied_place(self) -> Emptied:
        """The place of a ledger with nothing in it, in a tenth of the time that a new one takes."""
        if self._emptied is None:
            place = self.place()
            Ledger.create(place).close()
            self._emptied = Emptied(place.url, place.password_file)
        with psycopg.connect(self._emptied.url, password=PASSWORD) as team:
            team.execute("SET session_replication_role = replica")  # without triggers
            for table in TABLE_NAMES:
                where = "WHERE name NOT IN ('schema_version', 'ledger')" if table == "meta" else ""
                team.execute(f"DELETE FROM {table} {where}".encode())
        return self._emptied


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A started cluster, gone at the end. Skips the test where PostgreSQL is not installed, but in CI."""
    programs = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    if shutil.which("initdb", path=programs) is None:
        assert not os.environ.get("CI"), "PostgreSQL is missing: .ci/run installs it."
        pytest.skip("PostgreSQL is not installed here")
    as_other = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory() as name:  # not pytest's, which another user cannot enter
        folder = Path(name)
        if as_other:
            folder.chmod(0o755)
            shutil.chown(folder, "nobody")
        cluster = Cluster(folder, programs, as_other)
        cluster.password_file.write_text(PASSWORD + "\n", encoding="utf-8")
        cluster.password_file.chmod(0o644)  # whatever the umask of the tests before
        data, secret = str(folder / "data"), str(cluster.password_file)
        cluster.run(
            "initdb", "-D", data, "-A", "scram-sha-256", "-U", "keeper", "--pwfile", secret, "-E", "UTF8", "--no-sync"
        )
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.kill()
