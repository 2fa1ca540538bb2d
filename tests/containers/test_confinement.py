"""What a container of the network can't do: write its root, keep a privilege, tell a secret, reach another hospital."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from compose.containers import Containers
from tests.containers.conftest import HOSPITALS, JOBS, SERVED
from tests.containers.engine import docker, inspected

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=4)"

# Ports at which a container listens, but for Docker's names on loopback. State 0A is LISTEN.
LISTENING = """
for name in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in open(name).read().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if state == "0A" and not local.startswith("0B00007F"):
            print(local)
"""

KEYS = (
    "find / -xdev \\( -name '*.key' -o -name '*.password' -o -name '*.token' \\) -size +0"
    " -not -path '/proc/*' -not -path '/opt/venv/lib/*' 2>/dev/null; true"
)


def addresses(network: Containers, service: str) -> list[str]:
    """A container's addresses on all networks that it is in."""
    networks = inspected(network, service)["NetworkSettings"]["Networks"]
    return [each["IPAddress"] for each in networks.values() if each["IPAddress"]]


def reaches(network: Containers, service: str, host: str, port: int) -> bool:
    """Whether a service's container opens a TCP connection."""
    return network.run(service, "python3", "-c", CONNECT, host, str(port), check=False).returncode == 0


@pytest.fixture(scope="module")
def elsewhere(network: Containers) -> Iterator[tuple[str, int]]:
    """Address and port of a server on a network that is none of ours, which answers this machine."""
    image = inspected(network, "researcher")["Image"]
    server = ("--entrypoint", "python3", image, "-m", "http.server", "8000")
    container = docker("run", "--detach", "--rm", "--network", "bridge", *server).strip()
    try:
        (found,) = json.loads(docker("inspect", container))
        address = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], 8000
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(address, timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the server elsewhere does not answer"
                time.sleep(0.2)
        yield address
    finally:
        docker("kill", container)


@pytest.mark.parametrize("service", [*SERVED, *JOBS, "setup"])
def test_a_container_has_no_root_no_privilege_and_no_endless_log(network: Containers, service: str) -> None:
    found = inspected(network, service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert found["Config"]["User"].split(":")[0] not in ("", "0", "root")
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert host["PidsLimit"] > 0
    assert host["Memory"] > 0 or service == "setup"
    if service in JOBS:
        assert host["NetworkMode"] == "none"


@pytest.mark.parametrize("service", [*SERVED, *JOBS])
def test_the_read_only_file_system_holds(network: Containers, service: str) -> None:
    tried = network.run(
        service, "sh", "-c", "id -u; for d in / /etc /usr/bin /opt /srv; do echo x >$d/planted; done", check=False
    )
    assert tried.stdout.strip() != "0"
    assert tried.stderr.count("Read-only file system") + tried.stderr.count("nonexistent directory") == 5


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_a_hospital_reaches_no_other_and_nothing_beyond_its_network(
    network: Containers, elsewhere: tuple[str, int], hospital: str
) -> None:
    assert reaches(network, hospital, "localhost", 9400)
    for other in {*HOSPITALS} - {hospital}:
        for host in (other, *addresses(network, other)):
            assert not reaches(network, hospital, host, 9400), host
    for host in addresses(network, "researcher"):
        assert not reaches(network, hospital, host, 8888)
    for host in ("gateway", *addresses(network, "gateway")):  # nor another one through the gateway
        assert not reaches(network, hospital, host, 443), host
    assert not reaches(network, hospital, *elsewhere)
    assert reaches(network, hospital, "database", 5432) == (hospital == "rural")


def test_a_hospital_that_dials_out_has_no_way_in(network: Containers, elsewhere: tuple[str, int]) -> None:
    """Nobody opens a connection to its datasite or its dial-out; the dial-out opens those two that it needs."""
    for service in ("researcher", "coordinator", "gateway", "general", "rural"):
        for inside in ("paediatric", "paediatric-dial-out"):
            for host in (inside, *addresses(network, inside)):
                assert not reaches(network, service, host, 9400), (service, host)
    dial_out = "paediatric-dial-out"
    assert network.run(dial_out, "python3", "-c", LISTENING).stdout.split() == []
    assert reaches(network, dial_out, "paediatric", 9400)
    assert reaches(network, dial_out, "coordinator.university.example", 9443)
    for host, port in (("general.hospitals.example", 443), *((host, 443) for host in addresses(network, "gateway"))):
        assert not reaches(network, dial_out, host, port), host
    assert not reaches(network, dial_out, *elsewhere)
    assert not reaches(network, "paediatric", "coordinator.university.example", 9443)
    assert network.run(dial_out, "ls", "/secrets").stdout.split() == ["ca.pem"]  # and so it knows nothing to tell


def test_a_dial_out_says_that_it_is_connected(network: Containers) -> None:
    (connection,) = network.ask("paediatric", "status")["dial_out"]
    assert connection["coordinator"] == "coordinator.university.example:9443"
    assert connection["state"] == "connected"


def test_the_researcher_reaches_hospitals_through_the_gateway_alone(network: Containers) -> None:
    assert reaches(network, "researcher", "general.hospitals.example", 443)
    for hospital in HOSPITALS:
        for host in (hospital, *addresses(network, hospital)):
            assert not reaches(network, "researcher", host, 9400), host
    for host in addresses(network, "database"):
        assert not reaches(network, "researcher", host, 5432)


@pytest.mark.parametrize("service", JOBS)
def test_a_runner_reaches_nothing(network: Containers, service: str) -> None:
    hospital, kind = service.split("-")
    seen = network.run(service, "python3", "-c", "import socket; print([name for _, name in socket.if_nameindex()])")
    assert seen.stdout.strip() == "['lo']"
    for host in (hospital, "gateway", *addresses(network, hospital), *addresses(network, "gateway")):
        assert not reaches(network, service, host, 9400), host
    other = "runner" if kind == "exporter" else "exporter"
    files = network.run(
        service, "sh", "-c", f"ls -A /data /secrets /tables /witness /jobs/{other} 2>/dev/null; true"
    ).stdout
    words = {line for line in files.splitlines() if line and not line.endswith(":")}
    assert words == set()


def test_every_protection_of_jobs_holds(network: Containers) -> None:
    found = network.ask("general", "isolation")
    assert all(found.values() if isinstance(found, dict) else [each["holds"] for each in found]), found


def test_no_secret_is_in_an_environment_an_image_or_a_log(network: Containers) -> None:
    secrets = set()
    for service in SERVED:
        files = "find /secrets -type f ! -name '*.pem' ! -name network.toml -exec cat {} + -exec echo \\;"
        said = network.run(service, "sh", "-c", files).stdout.splitlines()
        secrets |= {line for line in said if len(line) >= 20 and not line.startswith("-----")}
    assert len(secrets) > 15
    told = network.compose("logs", "--no-color").stdout
    for service in (*SERVED, *JOBS, "setup"):
        told += json.dumps(inspected(network, service))
    for image in ("datasite", "researcher", "gateway", "database"):
        told += docker("history", "--no-trunc", f"private-datasites/{image}")
        assert docker("run", "--rm", "--network", "none", f"private-datasites/{image}", "sh", "-c", KEYS).split() == []
    assert [secret for secret in secrets if secret in told] == []


@pytest.mark.parametrize("service", HOSPITALS)
def test_a_hospital_holds_no_other_machines_secrets(network: Containers, service: str) -> None:
    files = set(network.run(service, "ls", "/secrets").stdout.split())
    database = {"database.password", "ledger.password"} if service == "rural" else set()
    assert files == {"owner.password", "researcher.password", "tls.key", "tls.pem", "ca.pem"} | database


def test_two_containers_on_one_volume_are_refused(network: Containers) -> None:
    second = network.compose("run", "--rm", "--no-deps", "-T", "general", check=False)
    assert second.returncode != 0
    assert "Another `datasite serve` serves" in second.stdout + second.stderr
    assert reaches(network, "general", "localhost", 9400)
