"""The whole study over TLS while plugs are pulled: it ends, ledgers verify, nothing is charged twice; then backups."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from compose.containers import STUDY, TABLES, Containers
from tests.containers.conftest import HOSPITALS
from tests.containers.engine import container, docker, entries, healthy, rounds, spent_by, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

# A copy of the ledger's database as its team may make one, taken while it is in use.
COPY = """
set -eu
createdb -h /tmp -U postgres -O datasite older
pg_dump -h /tmp -U postgres ledger | psql -h /tmp -U postgres -q -v ON_ERROR_STOP=1 older >/dev/null
"""
PLANNED = 4.3  # ε that the whole study costs a hospital at most, of 6; see compose/study.py


def test_a_database_that_restarts_leaves_nothing_half_published(published: Containers) -> None:
    network, before = published, published.ask("rural", "datasets")
    network.compose("stop", "--timeout", "0", "database")
    words = ["publish", *TABLES["rural"], "--schema", "/tables/flu.toml", "--count-epsilon", "0.1"]
    failed = network.owner("rural", *words, check=False)
    assert failed.returncode != 0
    assert "database" in failed.stderr
    assert "Traceback" not in failed.stderr
    network.up("database", quiet=True)
    assert network.ask("rural", "datasets") == before

    slow = [
        word.replace("SELECT * FROM visits", "SELECT v.*, pg_sleep(0.005)::text AS pause FROM visits v")
        for word in words
    ]
    command = network.command("exec", "-T", "rural", "datasite", *slow)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as publishing:
        time.sleep(6)
        network.compose("restart", "--timeout", "0", "database")
        said = publishing.communicate(timeout=300)[0].decode()
    assert publishing.returncode != 0, said
    assert "Traceback" not in said
    network.up("database", quiet=True)
    assert network.ask("rural", "datasets") == before
    network.owner("rural", "ledger", "--verify")


@dataclass(frozen=True)
class Studied:
    """The network after the study, what the researcher's half printed, and what each hospital had spent before it."""

    network: Containers
    said: str
    spent_before: dict[str, float]


def begins(study: subprocess.Popen[str], network: Containers, hospital: str, before: int | None = None) -> None:
    """Return when a hospital has begun another round of a study that is under way."""
    wait_until(lambda: rounds(network, hospital) > 0, f"{hospital} answers")
    begun = rounds(network, hospital) if before is None else before
    wait_until(lambda: study.poll() is not None or rounds(network, hospital) > begun, f"another round of {hospital}")
    assert study.poll() is None, "the study was over before the plug was pulled"


def rename(network: Containers, *pairs: tuple[str, str]) -> None:
    """Rename databases of the rural hospital's server, as its team does it."""
    statements = [word for old, new in pairs for word in ("-c", f"ALTER DATABASE {old} RENAME TO {new}")]
    network.run("database", "psql", "-h", "/tmp", "-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1", *statements)


@pytest.fixture(scope="module")
def studied(published: Containers, tmp_path_factory: pytest.TempPathFactory) -> Studied:
    """The study run to its end while hospitals and the gateway go away; what the researcher's half printed.

    The faults: a datasite killed in a round, another paused, a third cut off from its network, the gateway restarted,
    a runner killed with its job, dial-out and coordinator killed, and the database with a ledger killed twice, the
    second time together with its datasite.
    """
    network = published
    path = tmp_path_factory.mktemp("study") / "study.log"
    spent = {hospital: spent_by(network, hospital) for hospital in HOSPITALS}
    network.owner("general", "backup", "/witness/before.tar")
    network.run("database", "sh", "-c", COPY)
    before = {hospital: rounds(network, hospital) for hospital in HOSPITALS}
    with path.open("w") as log:
        study = network.begin("researcher", *STUDY, output=log.fileno())
        begun = time.monotonic()

        def approved() -> bool:
            assert study.poll() is None, path.read_text()
            for hospital in HOSPITALS:
                network.approve_all(hospital)
            return "Training FluPredictor together" in path.read_text()

        wait_until(approved, "approved")
        first = time.monotonic() - begun
        begins(study, network, "general", before["general"])
        docker("kill", container(network, "general"))
        docker("pause", container(network, "paediatric"))
        docker("network", "disconnect", f"{network.project}_rural", container(network, "rural"))
        time.sleep(5)
        docker("network", "connect", "--alias", "rural", f"{network.project}_rural", container(network, "rural"))
        docker("unpause", container(network, "paediatric"))
        docker("start", container(network, "general"))
        network.compose("restart", "--timeout", "1", "gateway")
        for carrier in ("paediatric-dial-out", "coordinator"):
            docker("kill", container(network, carrier))
            docker("start", container(network, carrier))
        wait_until(lambda: healthy(network, "general"), "the killed hospital again")
        docker("kill", container(network, "paediatric-runner"))
        docker("start", container(network, "paediatric-runner"))
        docker("kill", container(network, "database"))
        time.sleep(3)
        docker("start", container(network, "database"))
        begins(study, network, "rural")
        docker("kill", container(network, "database"), container(network, "rural"))
        docker("start", container(network, "database"), container(network, "rural"))
        wait_until(lambda: healthy(network, "rural"), "the hospital with its database again")
        assert study.poll() is None, path.read_text()
        wait_until(lambda: study.poll() is not None, "the study's end", 1200)
    print(
        f"\n{path.read_text()}\nApproved and begun after {first:.0f} s, ended after {time.monotonic() - begun:.0f} s."
    )
    print(
        subprocess.run(
            ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"], capture_output=True, text=True
        ).stdout
    )
    assert study.returncode == 0, path.read_text() + network.compose("logs", "--tail", "30").stdout
    return Studied(network, path.read_text(), spent)


def test_the_study_ends_with_a_model_whatever_went_away(studied: Studied) -> None:
    network, said = studied.network, studied.said
    report = json.loads(network.run("researcher", "cat", "/home/researcher/flu-2026/report.json").stdout)
    assert "Traceback" not in said
    assert {each["name"] for each in report["hospitals"]} == set(HOSPITALS)
    assert report["auc"]["joint_private"] > 0.75
    assert len(report["certificates"]) >= 25


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_ledgers_verify_and_nothing_is_charged_twice(studied: Studied, hospital: str) -> None:
    network = studied.network
    network.owner(hospital, "ledger", "--verify")
    releases = network.ask(hospital, "releases")
    counted = Counter((each["request"], each["round"]) for each in releases)
    assert counted
    assert max(counted.values()) == 1
    assert 0 < spent_by(network, hospital) - studied.spent_before[hospital] <= PLANNED


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_every_release_that_the_researcher_holds_is_in_its_hospitals_ledger(studied: Studied, hospital: str) -> None:
    network = studied.network
    report = json.loads(network.run("researcher", "cat", "/home/researcher/flu-2026/report.json").stdout)
    files = [each["file"] for each in report["certificates"] if each["hospital"] == hospital]
    said = network.run("researcher", "sh", "-c", 'cd flu-2026; for f in "$@"; do cat "$f"; echo; done', "sh", *files)
    held = [json.loads(line) for line in said.stdout.splitlines() if line]
    assert len(held) == len(files) > 8
    released = {each["digest"] for each in network.ask(hospital, "releases")}
    kept = {int(entry["seq"]): entry["hash"] for entry in entries(network, hospital)}
    for certificate in held:
        assert certificate["release"]["digest"] in released
        assert kept[certificate["ledger"]["entry"]] == certificate["ledger"]["head"]


def test_an_old_copy_of_the_database_is_noticed_and_the_newest_goes_on(studied: Studied) -> None:
    network = studied.network
    before = entries(network, "rural")
    network.compose("stop", "rural")
    rename(network, ("ledger", "newest"), ("older", "ledger"))
    try:
        served = network.compose("run", "--rm", "--no-deps", "-T", "rural", "datasite", "serve", check=False)
        said = served.stdout + served.stderr
        assert served.returncode != 0, said
        assert "accept-restored" in said
        assert "Traceback" not in said
    finally:
        rename(network, ("ledger", "older"), ("newest", "ledger"))
        network.up("rural", quiet=True)
    assert entries(network, "rural")[: len(before)] == before
    network.owner("rural", "ledger", "--verify")


def test_a_backup_is_put_back_whole_and_an_old_one_is_noticed(studied: Studied) -> None:
    network = studied.network
    [before] = network.ask("general", "datasets")["populations"]
    network.compose("stop", "general")
    run = ["run", "--rm", "--no-deps", "-T", "-e", "DATASITE_DIR=/data/restored", "general"]
    network.compose(*run, "datasite", "restore", "/witness/before.tar", "--dir", "/data/restored")
    served = network.compose(*run, "datasite", "serve", check=False)
    said = served.stdout + served.stderr
    assert served.returncode != 0, said
    assert "accept-restored" in said  # names the next step
    network.compose(*run, "datasite", "accept-restored", "--accept-older", "--yes")
    network.compose(*run, "datasite", "ledger", "--verify")
    told = json.loads(network.compose(*run, "datasite", "datasets", "--json").stdout)
    [after] = told["populations"]
    assert after["epsilon_spent"] >= before["epsilon_spent"] - 1e-6  # what the old copy forgot is charged
    # The hospital goes on with it: the witness is the restored ledger's now, and what it was before would not start.
    network.compose(*run, "sh", "-c", "mv /data/datasite /data/former && mv /data/restored /data/datasite")
    network.up("general", quiet=True)
    assert network.ask("general", "datasets")["populations"] == [after]


def test_a_full_disk_stops_a_publication_and_loses_nothing(network: Containers) -> None:
    script = """
set -e
printf 'a password of enough letters' >/tmp/password
datasite init --name Full --password-file /tmp/password >/dev/null
datasite publish /tables/flu.csv --schema /tables/flu.toml --count-epsilon 0.1 >/dev/null
dd if=/dev/zero of=/data/filler bs=64k 2>/dev/null || true
if datasite publish /tables/flu.csv --schema /tables/flu.toml --count-epsilon 0.1 2>/tmp/said; then exit 3; fi
grep -c Traceback /tmp/said && exit 4
cat /tmp/said
rm /data/filler
datasite ledger --verify
datasite publish /tables/flu.csv --schema /tables/flu.toml --count-epsilon 0.1
datasite ledger --verify
"""
    volume, image = f"{network.project}_general-tables:/tables:ro", "private-datasites/datasite"
    command = ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "-v", volume]
    command += ["--tmpfs", "/data:size=40m,uid=10001,mode=0700", image, "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "disk" in done.stdout.lower()  # names what is wrong
