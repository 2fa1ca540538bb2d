"""The ledger's page: each entry's ε, what was spent by then, and a chart up to today."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime

import numpy as np
import pytest

from datasites.people.roles import Role
from policies.privacy.accountant import Charge
from policies.privacy.nano import NANO
from tests.browser.desk import Desk

FIRST, SECOND = "f" * 32, "e" * 32


def rows(page: str) -> list[list[str]]:
    """The cells of the entries' table, newest first."""
    table = page[page.index('id="h-entries"') :]
    found = re.findall(r"<tr>(.*?)</tr>", table, re.S)[1:]
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in found
    ]


def released(desk: Desk) -> None:
    for request, epsilon in ((FIRST, 0.5), (SECOND, 0.25)):
        desk.ask(request, epsilon=epsilon, function=f"counts_{request[0]}")
        desk.release(request, {"count": np.array([400.0])})


def test_an_entry_shows_its_epsilon_and_what_was_spent_by_then(desk: Desk) -> None:
    released(desk)
    page = desk.browser(Role.OWNER).get("/ledger").text
    settled = [row for row in rows(page) if row[2].startswith("Released")]
    assert [row[6] for row in settled] == ["0.2500", "0.5000"]  # what each added
    assert [row[7] for row in settled] == ["0.7500", "0.5000"]  # in all, pure ε adds up while all of it is pure
    balance = desk.datasite.ledger.budgets.balance("patients")
    assert float(settled[0][7]) == balance.epsilon_spent
    opened = next(row for row in rows(page) if row[2].startswith("Population created"))
    assert opened[5:] == ["—", "—", "—"]


def test_an_older_page_shows_what_was_spent_by_then(desk: Desk) -> None:
    released(desk)
    entries = desk.act("entries", {})
    last = next(entry["seq"] for entry in entries if entry["kind"] == "settle")
    page = desk.browser(Role.OWNER).get(f"/ledger?before={last}").text
    settled = [row for row in rows(page) if row[2].startswith("Released")]
    assert [row[7] for row in settled] == ["0.5000"]


def test_what_was_spent_by_then_is_the_ledgers_own_sum(desk: Desk) -> None:
    released(desk)
    budgets = desk.datasite.ledger.budgets
    head = desk.datasite.ledger.entries.head().seq
    by_then = budgets.spent_by_then("patients", 1, head)
    assert len(by_then) == 2
    total = by_then[max(by_then)]
    conversion = budgets.balance("patients").conversion_nano
    assert total.epsilon_nano(conversion) / NANO == budgets.balance("patients").epsilon_spent
    assert budgets.spent_by_then("patients", max(by_then), head) == {max(by_then): total}
    assert budgets.spent_before("patients", max(by_then)) == by_then[min(by_then)]


def test_entries_say_what_each_added_to_all_before_it(desk: Desk) -> None:
    released(desk)
    budgets, conversion = desk.datasite.ledger.budgets, desk.datasite.ledger.budgets.balance("patients").conversion_nano
    training = Charge(NANO, None)
    version = desk.datasite.ledger.datasets.get(name="flu").version
    run = desk.datasite.ledger.charge_now("patients", training, dataset="flu", version=version, actor="o", what="t")
    desk.datasite.ledger.runs.settle(run.id, b"", "digest", "{}")
    entries = desk.act("entries", {"population": "patients"})
    added = {entry["seq"]: entry["epsilon_added"] for entry in entries if entry["epsilon_added"] is not None}
    spent = budgets.balance("patients").epsilon_spent
    assert sum(added.values()) == pytest.approx(spent)
    # The two counts added 0.75 as pure ε. Now their divergences count, and δ is turned into ε once.
    assert added[max(added)] == pytest.approx(spent - 0.75)
    assert spent > 1 + conversion / NANO
    older = desk.act("entries", {"population": "patients", "before": max(added) + 1, "limit": 1})
    assert older[0]["epsilon_added"] == added[max(added)]


def test_an_export_has_the_epsilon_of_each_entry(desk: Desk) -> None:
    released(desk)
    lines = list(csv.DictReader(io.StringIO(desk.browser(Role.AUDITOR).get("/ledger/export.csv").text)))
    assert [float(line["epsilon"]) for line in lines if line["kind"] == "settle"] == [0.5, 0.25]
    assert [line["epsilon"] for line in lines if line["kind"] == "submit"] == ["", ""]


def test_the_chart_ends_today(desk: Desk) -> None:
    released(desk)
    page = desk.browser(Role.OWNER).get("/ledger").text
    assert f"today, {datetime.now(UTC):%-d %b}" in page
    assert "up to today: 0.75 of a budget of 6." in page
