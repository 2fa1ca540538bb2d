"""TLS between machines: checked by the researcher's client, asked for by every server, with headers to match."""

from __future__ import annotations

import json

import pytest

from compose.containers import Containers
from tests.containers.conftest import REACHED
from tests.containers.engine import docker, inspected

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

FETCH = """
import json, ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2] if len(sys.argv) > 2 else None)
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=10, context=context)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, dict(answer.headers), answer.read(200).decode()]))
"""


def fetch(network: Containers, url: str, *authority: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of a page that the researcher's container asks for."""
    status, headers, text = json.loads(network.run("researcher", "python3", "-c", FETCH, url, *authority).stdout)
    return status, {name.lower(): value for name, value in headers.items()}, text


@pytest.mark.parametrize("hospital", REACHED)
def test_the_gateway_serves_each_hospital_with_a_certificate_that_holds(network: Containers, hospital: str) -> None:
    status, headers, text = fetch(network, f"https://{hospital}.hospitals.example/healthz", "/secrets/ca.pem")
    assert status == 200
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["server"] == "nginx"  # and no version
    assert json.loads(text)["status"] == "ok"


def test_a_console_comes_through_the_gateway_with_its_headers(network: Containers) -> None:
    status, headers, text = fetch(network, "https://general.hospitals.example/sign-in", "/secrets/ca.pem")
    assert status == 200
    assert (
        "default-src 'none'" in headers["content-security-policy"]
        or "default-src 'self'" in headers["content-security-policy"]
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert "<html" in text


def test_metrics_stay_inside(network: Containers) -> None:
    assert fetch(network, "https://general.hospitals.example/metrics", "/secrets/ca.pem")[0] == 404


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://general.hospitals.example/healthz", ()),  # an authority that the machine does not know
        ("https://gateway.outside/healthz", ("/secrets/ca.pem",)),  # a name that no certificate has
        ("http://general.hospitals.example/healthz", ()),
        ("http://general.hospitals.example:443/healthz", ()),
    ],
)
def test_nothing_is_served_without_a_certificate_that_holds(
    network: Containers, url: str, authority: tuple[str, ...]
) -> None:
    tried = network.run("researcher", "python3", "-c", FETCH, url, *authority, check=False)
    assert tried.returncode != 0 or json.loads(tried.stdout)[0] == 400, tried.stdout


def test_a_datasite_speaks_no_plain_http_beyond_loopback(network: Containers) -> None:
    refused = network.owner("general", "settings", "tls_certificate=", "tls_key=", check=False)
    assert refused.returncode != 0
    assert "not loopback" in refused.stderr + refused.stdout
    plain = (
        "import http.client; c = http.client.HTTPConnection('general', 9400, timeout=5);"
        " c.request('GET', '/healthz'); c.getresponse()"
    )
    assert network.run("general", "python3", "-c", plain, check=False).returncode != 0


def test_the_researchers_client_refuses_plain_http_and_unknown_authorities(published: Containers) -> None:
    network = published
    script = """
import pathlib, sys, researcher
path = pathlib.Path('/tmp/network.toml')
before, meeting, text = pathlib.Path('/home/researcher/network.toml').read_text().partition('[[datasites]]')
text = text.replace('ca_file = "/secrets/ca.pem"', sys.argv[1]).replace('https://', sys.argv[2])
path.write_text(before + meeting + text)
try:
    found = researcher.connect(path)
except Exception as error:
    print('refused', type(error).__name__, error)
else:
    print(sorted(found.datasites), found.missing)
"""
    for authority, scheme, says in (
        ("", "https://", "certificate"),
        ('ca_file = "/secrets/ca.pem"', "http://", "http://"),
    ):
        said = network.run("researcher", "python3", "-c", script, authority, scheme, check=False)
        assert says in said.stdout, said.stdout + said.stderr
        assert not said.stdout.startswith("['general'") or "{}" not in said.stdout
    whole = network.run("researcher", "python3", "-c", script, 'ca_file = "/secrets/ca.pem"', "https://")
    assert whole.stdout.strip() == "['general', 'paediatric', 'rural'] {}", whole.stdout + whole.stderr


def test_the_database_takes_tls_alone(network: Containers) -> None:
    script = (
        "import psycopg, sys; psycopg.connect(host='database', dbname='hospital', user='reader', sslmode=sys.argv[1],"
        " password=open('/secrets/database.password').read(), sslrootcert='/secrets/ca.pem', connect_timeout=5)"
    )
    assert network.run("rural", "python", "-c", script, "verify-full").returncode == 0
    assert network.run("rural", "python", "-c", script, "disable", check=False).returncode != 0


CROWD = """
import collections, concurrent.futures, json, ssl, sys, urllib.error, urllib.request
context = ssl._create_unverified_context()
def status(number):
    request = urllib.request.Request(sys.argv[1], data=b'{"email": "nobody@x.example", "password": "wrong"}')
    try:
        return urllib.request.urlopen(request, timeout=60, context=context).status
    except urllib.error.HTTPError as error:
        return error.code
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    print(json.dumps(collections.Counter(pool.map(status, range(60)))))
"""


def test_one_address_does_not_crowd_out_the_others_logins(network: Containers) -> None:
    """A machine of its own on the researchers' network, since what it does is counted against its address."""
    found = inspected(network, "researcher")
    (outside,) = found["NetworkSettings"]["Networks"]
    url = "https://general.hospitals.example/api/v2/login"
    command = ("run", "--rm", "--network", outside, "--entrypoint", "python3", found["Image"], "-c", CROWD, url)
    statuses = json.loads(docker(*command))
    assert statuses["429"] > 20, statuses
    assert 20 <= statuses["200"] < 40, statuses
    assert fetch(network, "https://general.hospitals.example/sign-in", "/secrets/ca.pem")[0] == 200
