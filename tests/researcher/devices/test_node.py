"""Devices behind a real SuperLink: they answer a report, and an app that wants more of them gets nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from researcher.devices.demo import write_reading
from researcher.devices.node import main
from researcher.devices.process import device_in
from tests.researcher.devices.links import APP, Link, device_node, linked, until, written_app
from tests.researcher.devices.teams import report

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]
BUDGET = 20.0
RATES = {"alice": 71.125, "bob": 83.625, "carol": 64.375}


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    """A SuperLink with the three devices as nodes."""
    place = tmp_path_factory.mktemp("link")
    with linked(place) as superlink, ExitStack() as nodes:
        for name, rate in RATES.items():
            write_reading(place / name, rate)
            nodes.enter_context(device_node(superlink, place / name, budget=BUDGET))
        yield superlink


def test_three_devices_answer_a_report_that_flwr_run_hands_in(link: Link) -> None:
    said = link.run(APP, name='"week 12"')
    assert "3 devices at ε = 1, means in 95 of 100 reports" in said, said
    assert "week 12: 3 of 3 devices" in said
    left = {name: device_in(link.place / name).remaining() for name in RATES}
    assert left == dict.fromkeys(RATES, BUDGET - 1)
    again = link.run(APP, name='"week 12"')
    figures = re.compile(r"heart_rate: mean .*")
    assert figures.findall(again) == figures.findall(said)  # kept, and not paid again
    assert {name: device_in(link.place / name).remaining() for name in RATES} == left


def test_shared_noise_goes_through_a_superlink_and_costs_what_nobody_accepted(link: Link) -> None:
    before = {name: device_in(link.place / name).remaining() for name in RATES}
    said = link.run(APP, name='"week 13"', shared_noise="true")
    assert "week 13: 3 of 3 devices" in said, said
    alone = report().check(3).epsilon_alone
    for name, left in before.items():
        assert device_in(link.place / name).remaining() == pytest.approx(left - alone, abs=1e-5)


EVIL = '''
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def ask(message, context):
    """What whoever hands in an app would like to know."""
    from pathlib import Path
    place = Path(str(message.content["device"]["text"]).partition(" ")[0])
    read = ConfigRecord({"text": (place / "readings.json").read_text()})
    return Message(RecordDict({"device": read}), reply_to=message)
'''
ASKING = """
import time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    while not list(grid.get_node_ids()):
        time.sleep(0.2)
    for kind in ("query", "train", "evaluate"):
        messages = [
            Message(RecordDict({"device": ConfigRecord({"text": text})}), dst_node_id=node, message_type=kind)
            for node in grid.get_node_ids()
            for text in TEXTS
        ]
        for reply in grid.send_and_receive(messages, timeout=20):
            told = reply.error.reason if reply.has_error() else dict(reply.content["device"])
            print("TOLD", kind, told, flush=True)
"""


def evil_app(place: Path, directories: list[Path]) -> Path:
    """An app whose ClientApp reads what lies beside it and whose ServerApp prints that."""
    texts = [f"{directory} " for directory in directories]
    return written_app(place, {"client.py": EVIL, "server.py": f"TEXTS = {texts!r}\n{ASKING}"})


def test_an_app_that_reads_what_lies_on_the_machine_never_runs_at_a_device(link: Link, tmp_path: Path) -> None:
    before = {name: device_in(link.place / name).remaining() for name in RATES}
    said = link.run(evil_app(tmp_path, [link.place / name for name in RATES]))
    told = [line for line in said.splitlines() if "TOLD" in line]
    assert len(told) == 3 * 3 * 3, said
    assert all("refused" in line for line in told if "TOLD query" in line)
    assert all("DeviceReport alone" in line for line in told if "TOLD query" not in line)
    for rate in RATES.values():
        assert str(rate) not in said
    assert {name: device_in(link.place / name).remaining() for name in RATES} == before


def test_the_same_app_reads_it_at_a_stock_supernode(tmp_path: Path) -> None:
    """Why a device has a node of its own: without it the test above would fail."""
    write_reading(tmp_path / "dave", 77.875)
    with linked(tmp_path) as superlink:
        command = [
            "flower-supernode", "--superlink", superlink.address, "--root-certificates",
            str(superlink.certificates / "ca.pem"), "--port", "0",
        ]  # fmt: skip
        command[-1] = str(superlink.port + 1)
        with superlink.started("supernode", command) as log:
            until(lambda: "SuperNode ID" in log.read_text(), log)
            said = superlink.run(evil_app(tmp_path, [tmp_path / "dave"]))
    assert "77.875" in said, said


def test_a_node_is_told_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["localhost:1", str(tmp_path), "--budget", "2"]) == 1
    assert "--insecure to try it on one machine" in capsys.readouterr().err
    assert main(["localhost:1", str(tmp_path), "--insecure"]) == 1
    assert "Give this device's person a budget first" in capsys.readouterr().err
    (tmp_path / "key").write_text("none")
    assert main(["localhost:1", str(tmp_path), "--insecure", "--budget", "2", "--key", str(tmp_path / "key")]) == 1
    assert "ssh-keygen" in capsys.readouterr().err
