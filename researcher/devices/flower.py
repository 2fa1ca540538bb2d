"""Devices behind Flower: a `ClientApp` that answers as a device, and a team's devices behind a `Grid`.

    python -m researcher.devices.node SUPERLINK DIRECTORY                                # on each device
    result = report.run(FlowerDevices(grid))                                             # in the team's ServerApp

`client_app` is what that node runs. In an app of one's own a stock SuperNode runs it as well, and with it whatever else
the app holds: for simulations, and not where a person's readings lie. A message holds one text and its reply another:
Flower carries them, and need not be trusted with more, since a number leaves a device with its noise, or in shares or
under masks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from policies.errors import InvalidRequest
from researcher.devices.device import Device
from researcher.devices.process import device_in

RECORD, TEXT = "device", "text"
QUERY = "query"
TIMEOUT = 60.0
DIRECTORY = "device"  # of a node's configuration, as 'device="/var/lib/watch"'


def client_app(device_for: Callable[[Context], Device] | None = None) -> Any:
    """Flower's `ClientApp` for a device.

    Args:
      device_for: the device of a node, by Flower's context; else the one in the directory that the node's
        configuration names as `device`.
    """
    app = ClientApp()
    find = device_for or _device_of

    @app.query()  # type: ignore[untyped-decorator, unused-ignore]
    def ask(message: Message, context: Context) -> Message:
        text = message.content[RECORD][TEXT] if RECORD in message.content else ""
        answer = find(context).answer(str(text))
        return Message(RecordDict({RECORD: ConfigRecord({TEXT: answer})}), reply_to=message)

    return app


class FlowerDevices:
    """All nodes of a grid, named by their numbers.

    Args:
      grid: Flower's, as a `ServerApp` is given it.
      timeout: seconds that devices have for each text.
    """

    def __init__(self, grid: Grid, *, timeout: float = TIMEOUT) -> None:
        self._grid, self._timeout = grid, timeout
        self._nodes = {str(node): node for node in grid.get_node_ids()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of all nodes that were connected when this was made."""
        return tuple(self._nodes)

    def ask(self, texts: Mapping[str, str]) -> dict[str, str]:
        """All at once; who does not reply in time, or with an error, is left out."""
        named = {node: name for name, node in self._nodes.items()}
        messages = [
            Message(RecordDict({RECORD: ConfigRecord({TEXT: text})}), dst_node_id=self._nodes[name], message_type=QUERY)
            for name, text in texts.items()
        ]
        answers = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._timeout):
            name = named.get(reply.metadata.src_node_id)
            if name is not None and not reply.has_error() and RECORD in reply.content:
                answers[name] = str(reply.content[RECORD].get(TEXT, ""))
        return answers


def _device_of(context: Context) -> Device:
    directory = context.node_config.get(DIRECTORY)
    if not directory:
        raise InvalidRequest(
            "This node's configuration names no device. Start it with --node-config 'device=\"DIRECTORY\"'."
        )
    return device_in(str(directory))
