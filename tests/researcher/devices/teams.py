"""Teams of devices to ask, all in this process, and relays between them that lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from researcher.devices.device import Device
from researcher.devices.ledger import SimulatedLedger
from researcher.devices.report import Answering, DeviceReport, question_text

COLUMN, BOUNDS = "heart_rate", (40, 200)


def device(rate: object = 71.0, *, budget: float = 2.0) -> Device:
    """One device that has a heart rate."""
    return Device(lambda: {COLUMN: rate}, SimulatedLedger(budget=budget))


def team(rates: list[float], *, budget: float = 2.0) -> dict[str, Device]:
    """A device for each rate."""
    return {f"d{place:05d}": device(rate, budget=budget) for place, rate in enumerate(rates)}


def answering(devices: Mapping[str, Device]) -> dict[str, Callable[[str], str]]:
    """How they are asked."""
    return {name: one.answer for name, one in devices.items()}


def report(**changes: Any) -> DeviceReport:
    """A question about heart rates."""
    options: dict[str, Any] = {"columns": [COLUMN], "bounds": {COLUMN: BOUNDS}, "epsilon": 1.0, "name": "week 12"}
    return DeviceReport(**options | changes)


def accept(asked: DeviceReport, devices: Mapping[str, Device]) -> None:
    """Everybody accepts the roster of their circle."""
    for question, members in asked.circles(Answering(answering(devices))):
        for name in members.values():
            devices[name].accept(question_text(question))


class Relay:
    """Devices behind something that changes texts on their way, or what comes back, or drops them."""

    def __init__(
        self,
        devices: Mapping[str, Device],
        *,
        there: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda name, text: text,
        back: Callable[[str, dict[str, Any], dict[str, Any]], dict[str, Any] | None] = lambda name, text, answer: (
            answer
        ),
    ) -> None:
        self.devices, self.there, self.back = devices, there, back

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.devices)

    def ask(self, texts: Mapping[str, str]) -> dict[str, str]:
        answers = {}
        for name, text in texts.items():
            if (sent := self.there(name, json.loads(text))) is None:
                continue
            told = self.back(name, sent, json.loads(self.devices[name].answer(json.dumps(sent))))
            if told is not None:
                answers[name] = json.dumps(told)
        return answers
