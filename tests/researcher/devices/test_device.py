"""A device pays once, refuses when its budget is spent, and says nothing of its number but through noise."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import statistics
import threading
from pathlib import Path
from typing import Any

import pytest

from policies.canonical import canonical
from policies.errors import InvalidRequest, Unavailable
from policies.privacy.device_reports import Column, DeviceQuestion
from policies.privacy.shared_noise import laplace_variance
from researcher.devices.device import ABOUT, Device
from researcher.devices.ledger import FileLedger, Ledger, SimulatedLedger
from researcher.devices.process import device_in
from researcher.devices.report import question_text
from tests.researcher.devices.teams import COLUMN, accept, answering, device, report, team


def text(name: str = "week 12", **changes: Any) -> str:
    return question_text(report(name=name, **changes).question)


@pytest.fixture(params=["file", "simulated"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """Both kinds of ledger keep the same promises."""
    return SimulatedLedger(budget=2) if request.param == "simulated" else FileLedger(tmp_path / "l.db", budget=2)


def test_the_same_question_is_answered_with_the_same_numbers_and_paid_once(ledger: Ledger) -> None:
    one = Device(lambda: {COLUMN: 71}, ledger)
    first = one.answer(text())
    assert [one.answer(text()) for _ in range(20)] == [first] * 20
    assert one.remaining() == 1.0
    assert one.answer(text("week 13")) != first
    assert one.remaining() == 0.0


def test_a_spent_budget_is_refused_with_what_is_asked_and_what_is_left(ledger: Ledger) -> None:
    one = Device(lambda: {COLUMN: 71}, ledger)
    assert "numbers" in json.loads(one.answer(text(epsilon=1.5)))
    refused = json.loads(one.answer(text("week 13")))
    assert refused == {
        "refused": "This question costs ε=1 and ε=0.5 is left on this device. Ask for a smaller epsilon."
    }
    assert one.remaining() == 0.5
    assert "numbers" in json.loads(one.answer(text("week 13", epsilon=0.5)))
    assert one.remaining() == 0.0


def test_any_order_of_questions_at_once_stays_inside_the_budget(ledger: Ledger) -> None:
    one = Device(lambda: {COLUMN: 71}, ledger)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda n=number: answers.append(one.answer(text(f"week {n}", epsilon=0.3))))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("numbers" in answer for answer in answers) == 6  # 6 · 0.3 = 1.8 of 2
    assert 0 <= one.remaining() < 0.3


@pytest.mark.parametrize("reading", [None, "71", True, float("nan"), float("inf"), [71], {}, 10**400])
def test_without_a_number_nothing_is_paid_and_all_refusals_are_one(reading: object) -> None:
    one = device(reading)
    refused = json.loads(one.answer(text()))
    assert refused == {"refused": "This device does not have a number in each of these columns."}
    assert one.remaining() == 2.0


ASKED = [
    "", "{", "[]", "7", "null", '{"question": 7}', '{"what": "else"}', "[" * 5000, '{"question": {}}',
    json.dumps({"question": report().question.as_dict() | {"epsilon": 100}}),
    json.dumps({"question": report().question.as_dict() | {"columns": [["heart_rate", 70.9, 70.9]]}}),
    json.dumps({"question": report().question.as_dict() | {"columns": [["x" * 400, 0, 1]]}}),
    json.dumps({"question": report().question.as_dict(), "step": "keys", "message": {}}),
    json.dumps({"question": report().question.as_dict() | {"shared": {"threshold": 1, "hospitals": []}}}),
    json.dumps({"question": report(columns=["age"], bounds=[(0, 120)]).question.as_dict()}),
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_refused_is_refused_alike_whatever_the_number_is(asked: str) -> None:
    low, high = device(40.0), device(200.0)
    assert low.answer(asked) == high.answer(asked)
    assert set(json.loads(low.answer(asked))) == {"refused"}
    assert low.remaining() == high.remaining() == 2.0


def test_answers_differ_in_their_numbers_alone() -> None:
    shapes = {re.sub(r"-?\d+", "N", device(rate).answer(text())) for rate in (40.0, 71.25, 200.0)}
    assert shapes == {'{"numbers":[N,N]}'}


def test_the_noise_of_an_answer_is_as_wide_as_is_said() -> None:
    question = report().question
    y = [
        json.loads(Device(lambda: {COLUMN: 120}, SimulatedLedger(budget=1), source=random.Random(n)).answer(text()))[
            "numbers"
        ][0]
        for n in range(2000)
    ]
    assert statistics.variance(y) == pytest.approx(laplace_variance(question.halvings, 1), rel=0.2)
    assert abs(statistics.fmean(y)) < 4 * (laplace_variance(question.halvings, 1) / 2000) ** 0.5


def test_narrower_bounds_are_another_question_which_is_paid_as_well() -> None:
    one = device(71.0)
    one.answer(text())
    one.answer(text(bounds={COLUMN: (70, 72)}))
    assert one.remaining() == 0.0
    assert "refused" in one.answer(text(bounds={COLUMN: (70.9, 71.1)}))


def test_a_ledger_on_disk_outlives_the_device_and_keeps_its_own_budget(tmp_path: Path) -> None:
    (tmp_path / "readings.json").write_text('{"heart_rate": 71}')
    first = device_in(tmp_path, budget=1).answer(text())
    again = device_in(tmp_path, budget=100)
    assert again.answer(text()) == first
    assert "refused" in again.answer(text("week 13"))
    assert again.remaining() == 0.0


@pytest.mark.parametrize("content", ["", "{", "[71]", "7"])
def test_readings_that_are_none_are_no_readings(tmp_path: Path, content: str) -> None:
    (tmp_path / "readings.json").write_text(content)
    assert "does not have a number" in device_in(tmp_path, budget=1).answer(text())


def test_a_ledger_needs_a_budget_and_one_that_is_damaged_lets_nothing_leave(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not exist"):
        device_in(tmp_path)
    for budget in (0, -1, 101, float("nan")):
        with pytest.raises(InvalidRequest, match="outside"):
            FileLedger(tmp_path / f"{budget}.db", budget=budget)
    broken = device_in(tmp_path, budget=1)
    (tmp_path / "ledger.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    (tmp_path / "readings.json").write_text('{"heart_rate": 71}')
    assert "ledger cannot be used" in broken.answer(text())
    with pytest.raises(Unavailable):
        broken.remaining()


def test_an_answer_that_could_not_be_kept_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "readings.json").write_text('{"heart_rate": 71}')
    one = device_in(tmp_path, budget=1)
    connect = sqlite3.connect

    class Full(sqlite3.Connection):
        def execute(self, statement: str, *rest: Any) -> Any:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *rest)

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: connect(*a, factory=Full, **o))
    assert "numbers" not in one.answer(text())
    monkeypatch.undo()
    assert one.remaining() == 1.0


# -- shared noise ------------------------------------------------------------------------------------------------------


def test_who_did_not_accept_a_roster_pays_as_if_all_others_worked_together() -> None:
    asked, devices = report(shared_noise=True), team([70.0] * 3, budget=6)
    (question, members), = asked.circles(_answering(devices))  # fmt: skip
    alone = question.epsilon_if(1)
    assert 5 < alone < 6
    names = sorted(devices)
    said = devices[names[0]].accept(question_text(question))
    assert "3 devices add parts of one noise, and any 2 parts are the whole" in said
    assert "costs ε=1 " in said
    assert "ε=5.5" in said
    asked.run(answering(devices))
    assert devices[names[0]].remaining() == pytest.approx(5)
    assert [devices[name].remaining() for name in names[1:]] == pytest.approx([6 - alone] * 2, abs=1e-5)
    assert len(members) == 3


def test_who_did_not_accept_and_has_not_so_much_left_gives_no_key() -> None:
    asked, devices = report(shared_noise=True), team([70.0] * 3, budget=2)
    with pytest.raises(Unavailable, match="did not accept the roster"):
        asked.run(answering(devices))
    assert [one.remaining() for one in devices.values()] == [2.0] * 3


def test_accepting_one_roster_accepts_no_other() -> None:
    asked, devices = report(shared_noise=True), team([70.0] * 3, budget=2)
    accept(asked, devices)
    more = devices | {"d99999": device(70.0)}
    with pytest.raises(Unavailable, match="did not accept the roster"):
        asked.run(answering(more))  # one stranger more in the same circle
    assert [one.remaining() for one in devices.values()] == [2.0] * 3


def test_a_roster_without_this_device_is_refused() -> None:
    asked, devices = report(shared_noise=True), team([70.0] * 2)
    (question, _), = asked.circles(_answering(devices))  # fmt: skip
    text = canonical({"question": question.as_dict(), "step": "keys", "message": {"weights_digest": ""}}).decode()
    assert "does not name this device" in device().answer(text)


def test_own_noise_needs_no_roster_to_be_accepted() -> None:
    with pytest.raises(InvalidRequest, match="shares no noise"):
        device().accept(text())


def test_a_device_tells_its_key_and_what_is_left_and_nothing_else() -> None:
    about = json.loads(device().answer(canonical(ABOUT).decode()))
    assert set(about) == {"key", "remaining"}
    assert about["remaining"] == 2.0


def test_columns_of_a_question_are_the_ones_that_are_read() -> None:
    one = Device(lambda: {"a": 1, "b": 2}, SimulatedLedger(budget=2))
    asked = DeviceQuestion(
        name="two", columns=(Column(name="b", low=0, high=4), Column(name="a", low=0, high=4)), epsilon=2.0
    )
    assert len(json.loads(one.answer(question_text(asked)))["numbers"]) == 4


def _answering(devices: dict[str, Device]) -> Any:
    from researcher.devices.report import Answering

    return Answering(answering(devices))
