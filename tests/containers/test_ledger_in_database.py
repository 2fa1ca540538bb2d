"""The rural hospital's ledger in its PostgreSQL server: moved there, kept there, and out of everybody else's reach."""

from __future__ import annotations

import subprocess

import pytest

from compose.containers import Containers
from tests.containers.engine import docker, entries, inspected

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

CONNECT = """
import psycopg, sys
role, database, mode, password = sys.argv[1:]
found = psycopg.connect(host="database", dbname=database, user=role, password=open(password).read().strip(),
                        sslmode=mode, sslrootcert="/secrets/ca.pem", connect_timeout=5)
print(found.execute("SELECT current_user").fetchone()[0])
"""

# A server's first start, one of a volume that has no ledger's database yet, and one that was cut off while making it.
STARTS = r"""
set -eu
ask() { psql -h /tmp -U postgres -tA "$@"; }
start() {
  database & server=$!
  until pg_isready -q -h localhost -d hospital -U reader; do kill -0 $server; sleep 0.2; done
  ask -d hospital -c 'SELECT count(*) FROM visits'
  ask -d postgres -c "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'ledger'"
}
stop() { kill -INT $server; wait $server; }
records=/var/lib/records/data
start
ask -d postgres -c 'DROP DATABASE ledger' -c 'DROP ROLE datasite'
rm $records/ledger
printf 'local all postgres peer map=own\nhostssl hospital reader all scram-sha-256\n' >$records/pg_hba.conf
stop
start
ask -d postgres -c 'DROP DATABASE ledger'
rm $records/ledger
stop
start
cat $records/pg_hba.conf
export PGPASSWORD=$(cat /secrets/ledger.password)
psql -tA 'host=localhost dbname=ledger user=datasite sslmode=require' -c 'SELECT 1'
stop
"""


def connected(network: Containers, role: str, database: str, *, mode: str = "verify-full", password: str = "") -> bool:
    """Whether the rural datasite's container opens a connection as a role."""
    secret = password or ("database" if role == "reader" else "ledger")
    words = (role, database, mode, f"/secrets/{secret}.password")
    return network.run("rural", "python", "-c", CONNECT, *words, check=False).stdout.strip() == role


def test_what_was_charged_before_the_move_is_in_the_database_and_nowhere_else(network: Containers) -> None:
    """The network began with this hospital's ledger in a file, as earlier versions have it; see conftest."""
    kinds = [entry["kind"] for entry in entries(network, "rural")]
    assert kinds[0] == "population", kinds  # and what its published count of patients cost
    assert network.ask("rural", "datasets")["populations"][0]["epsilon_spent"] > 0
    files = network.run("rural", "sh", "-c", "ls /data/datasite").stdout.split()
    assert "ledger.moved.db" in files
    assert "ledger.db" not in files
    network.owner("rural", "ledger", "--verify")
    said = network.owner("rural", "settings").stdout
    assert "postgresql://datasite@database/ledger" in said
    password = network.run("rural", "cat", "/secrets/ledger.password").stdout.strip()
    assert password not in said


@pytest.mark.parametrize(
    ("role", "database", "mode", "password", "opens"),
    [
        ("datasite", "ledger", "verify-full", "", True),
        ("datasite", "ledger", "disable", "", False),  # in the clear
        ("reader", "ledger", "verify-full", "", False),
        ("datasite", "hospital", "verify-full", "", False),
        ("datasite", "ledger", "verify-full", "database", False),  # the other's password
        ("datasite", "postgres", "verify-full", "", False),
        ("postgres", "ledger", "verify-full", "", False),
    ],
)
def test_a_role_reaches_its_own_database_alone(
    network: Containers, role: str, database: str, mode: str, password: str, opens: bool
) -> None:
    assert connected(network, role, database, mode=mode, password=password) is opens


def test_a_server_without_a_ledgers_database_gets_one_at_its_next_start(network: Containers) -> None:
    secrets, tables = f"{network.project}_database-secrets:/secrets:ro", f"{network.project}_rural-tables:/tables:ro"
    command = ["docker", "run", "--rm", "--network", "none", "--read-only", "-v", secrets, "-v", tables]
    command += ["--group-add", "10001", "--tmpfs", "/tmp:mode=1777", "--shm-size", "128m", "--cap-drop", "ALL"]
    command += ["--tmpfs", "/var/lib/records:size=300m,uid=10006,mode=0700", inspected(network, "database")["Image"]]
    done = subprocess.run([*command, "sh", "-c", STARTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.split("\n")
    rows = [line for line in lines if line.isdigit() and int(line) > 1]
    assert len(rows) == 3
    assert len(set(rows)) == 1  # its records are as they were
    assert lines.count("ledger|datasite") == 3
    assert lines[-2] == "1"
    assert "hostssl ledger datasite all scram-sha-256" in lines


def test_the_datasite_waits_for_its_ledger_and_goes_on_by_itself(published: Containers) -> None:
    network, before = published, entries(published, "rural")
    docker("kill", inspected(network, "database")["Id"])
    away = network.owner("rural", "ledger", check=False)
    assert away.returncode != 0
    assert "ledger" in away.stderr
    assert "Traceback" not in away.stderr
    network.up("database", quiet=True)
    assert entries(network, "rural") == before
    network.owner("rural", "ledger", "--verify")
