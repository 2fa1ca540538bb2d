"""The whole study over TLS while plugs are pulled: it ends, ledgers verify, nothing is charged twice; then backups."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest

from compose.containers import TABLES, Containers
from tests.containers.conftest import HOSPITALS

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

PLANNED = 4.3  # ε that the whole study costs a hospital at most, of 6; see compose/study.py


def docker(*words: str) -> None:
    """Run a docker command."""
    subprocess.run(["docker", *words], check=True, capture_output=True)


def container(network: Containers, service: str) -> str:
    """A service's container, running or not."""
    return network.compose("ps", "-aq", service).stdout.strip()


def wait_until(true: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Return when `true()`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.3)


def healthy(network: Containers, service: str) -> bool:
    """Whether a service answers its own health check now."""
    health = "python3 /usr/local/lib/healthy.py https://localhost:9400/healthz /secrets/ca.pem 2>/dev/null"
    return network.run(service, "sh", "-c", health, check=False).returncode == 0


def runs(network: Containers, hospital: str) -> list[dict[str, object]]:
    """A hospital's rounds."""
    found: list[dict[str, object]] = network.ask(hospital, "runs")
    return found


def test_a_database_that_restarts_leaves_nothing_half_published(published: Containers) -> None:
    network, before = published, published.ask("rural", "datasets")
    network.compose("stop", "--timeout", "0", "database")
    words = ["publish", *TABLES["rural"], "--schema", "/tables/flu.toml", "--count-epsilon", "0.1"]
    failed = network.owner("rural", *words, check=False)
    assert failed.returncode != 0
    assert "database" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert network.ask("rural", "datasets") == before
    network.up("database", quiet=True)

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
    assert network.ask("rural", "datasets") == before
    network.up("database", quiet=True)
    network.owner("rural", "ledger", "--verify")


@pytest.fixture(scope="module")
def studied(published: Containers, tmp_path_factory: pytest.TempPathFactory) -> tuple[Containers, str]:
    """The study run to its end while hospitals and the gateway go away; what the researcher's half printed.

    The faults: a datasite killed in a round, another paused, a third cut off from its network, the gateway restarted,
    a runner killed with its job, and dial-out and coordinator killed.
    """
    network = published
    path = tmp_path_factory.mktemp("study") / "study.log"
    network.owner("general", "backup", "/witness/before.tar")
    with path.open("w") as log:
        study = network.begin_study(output=log.fileno())
        begun = time.monotonic()

        def approved() -> bool:
            assert study.poll() is None, path.read_text()
            for hospital in HOSPITALS:
                network.approve_all(hospital)
            return "Training FluPredictor together" in path.read_text()

        wait_until(approved, "approved")
        first = time.monotonic() - begun
        wait_until(lambda: len(runs(network, "general")) > 0, "a first round")
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
    return network, path.read_text()


def test_the_study_ends_with_a_model_whatever_went_away(studied: tuple[Containers, str]) -> None:
    network, said = studied
    report = json.loads(network.run("researcher", "cat", "/home/researcher/flu-2026/report.json").stdout)
    assert "Traceback" not in said
    assert {each["name"] for each in report["hospitals"]} == set(HOSPITALS)
    assert report["auc"]["joint_private"] > 0.75
    assert len(report["certificates"]) >= 25


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_ledgers_verify_and_nothing_is_charged_twice(studied: tuple[Containers, str], hospital: str) -> None:
    network, _ = studied
    network.owner(hospital, "ledger", "--verify")
    releases = network.ask(hospital, "releases")
    counted = Counter((each["request"], each["round"]) for each in releases)
    assert counted
    assert max(counted.values()) == 1
    [budget] = network.ask(hospital, "datasets")["populations"]
    assert 0 < budget["epsilon_spent"] <= PLANNED


def test_a_backup_is_put_back_whole_and_an_old_one_is_noticed(studied: tuple[Containers, str]) -> None:
    network, _ = studied
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
