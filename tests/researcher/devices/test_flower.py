"""Devices behind Flower's own `ClientApp`, called as a SuperNode calls it, and a team behind a `Grid`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from researcher.devices import report as reports
from researcher.devices.demo import write_reading
from researcher.devices.device import Device
from researcher.devices.flower import RECORD, TEXT, FlowerDevices, client_app
from researcher.devices.process import device_in
from researcher.devices.report import question_text
from researcher.flower_turns import flower_turn
from tests.researcher.devices.teams import COLUMN, accept, report, team


@pytest.fixture(autouse=True)
def running() -> Iterator[None]:
    """A task of Flower's runtime, which a `ServerApp` or a SuperNode is: messages name it."""
    with flower_turn():
        yield


def context(node: int, **configuration: str) -> Context:
    return Context(run_id=1, node_id=node, node_config=dict(configuration), state=RecordDict(), run_config={})


class Nodes(Grid):
    """A grid whose nodes are Flower's `ClientApp`s in this process, with messages as a SuperLink passes them on."""

    def __init__(self, apps: dict[int, tuple[Any, Context]]) -> None:
        self.apps = apps
        self.sent: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = []
        for message in messages:
            self.sent.append(message)
            app, where = self.apps[message.metadata.dst_node_id]
            replies.append(app(message, where))
        return replies

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError


def grid_of(devices: dict[str, Device]) -> Nodes:
    """A node for each device."""
    by_node = dict(enumerate(devices.values(), 1))
    app = client_app(lambda where: by_node[where.node_id])
    return Nodes({node: (app, context(node)) for node in by_node})


def test_a_client_app_answers_a_message_as_the_device_in_its_directory(tmp_path: Path) -> None:
    write_reading(tmp_path, 71.0)
    device_in(tmp_path, budget=2)
    text = question_text(report().question)
    message = Message(RecordDict({RECORD: ConfigRecord({TEXT: text})}), dst_node_id=1, message_type="query")
    reply = client_app()(message, context(1, device=str(tmp_path)))
    assert reply.content[RECORD][TEXT] == device_in(tmp_path).answer(text)
    assert device_in(tmp_path).remaining() == 1.0


def test_a_message_of_another_kind_is_refused_in_words() -> None:
    grid = grid_of(team([70.0]))
    app, where = grid.apps[1]
    reply = app(Message(RecordDict(), dst_node_id=1, message_type="query"), where)
    assert "refused" in reply.content[RECORD][TEXT]


def test_a_node_without_a_device_says_how_to_name_one() -> None:
    message = Message(RecordDict(), dst_node_id=1, message_type="query")
    with pytest.raises(Exception, match="node-config"):
        client_app()(message, context(1))


def test_a_report_over_flower_is_the_report_of_its_devices() -> None:
    devices = team([60.0, 70.0, 80.0])
    result = report().run(FlowerDevices(grid_of(devices)))
    assert result.devices == ("1", "2", "3")
    assert result.figures == report().run({name: one.answer for name, one in devices.items()}).figures
    assert [one.remaining() for one in devices.values()] == [1.0] * 3


def test_shared_noise_goes_over_flower_and_nothing_but_texts_do() -> None:
    devices = {str(node): one for node, one in enumerate(team([60.0, 70.0, 80.0]).values(), 1)}
    accept(report(shared_noise=True), devices)
    grid = grid_of(devices)
    result = report(shared_noise=True).run(FlowerDevices(grid))
    assert result[COLUMN].devices == 3
    assert all(list(message.content) == [RECORD] for message in grid.sent)
    assert [one.remaining() for one in devices.values()] == [1.0] * 3


def test_one_sum_over_a_team_goes_over_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LARGEST_CIRCLE", 2)  # so that twelve are a team
    devices = {str(node): one for node, one in enumerate(team([60.0 + node for node in range(12)]).values(), 1)}
    accept(report(shared_noise=True), devices)
    grid = grid_of(devices)
    result = report(shared_noise=True).run(FlowerDevices(grid))
    assert result[COLUMN].devices == 12
    assert not result.prospect.in_circles
    assert all(list(message.content) == [RECORD] for message in grid.sent)
    assert [one.remaining() for one in devices.values()] == [1.0] * 12
