"""Publishing and taking back, as far as no table is read; the rest is in `tests/e2e/test_private_rows.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.actions.for_researchers import ForResearchers
from datasites.actions.publishing import _two_digits
from datasites.people.roles import Role
from policies.errors import DataRefused, InvalidRequest, PermissionRefused, WrongStatus
from policies.source.statuses import RequestStatus
from tests.browser.desk import RESEARCHER, Desk, PySyftAccounts
from tests.factories import SCHEMA, write_table


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def publish(desk: Desk, **changes: Any) -> None:
    facts: dict[str, Any] = {
        "table": "nothing.csv", "sql": None, "database": None, "password_file": None, "schema": SCHEMA,
        "patients": 400, "count_epsilon": None, "budget": [6.0, 1e-5], "public_mock": None,
    }  # fmt: skip
    desk.act("publish", {**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patients": None}, "Say how the number of patients is published"),
        ({"count_epsilon": 0.1}, "Say how the number of patients is published"),
        ({"patients": 0}, "patients=0 is not a whole number from 1"),
        ({"patients": -5}, "patients=-5 is not a whole number from 1"),
    ],
)
def test_a_size_is_said_in_one_way_before_any_table_is_read(desk: Desk, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        publish(desk, **changes)


def test_a_name_stays_on_its_populations_budget(desk: Desk) -> None:
    """Else the same patients would be asked about on a fresh one."""
    schema = SCHEMA.replace('population = "patients"', 'population = "fresh"')
    with pytest.raises(WrongStatus, match="whose budget it stays on"):
        publish(desk, schema=schema)


@pytest.mark.parametrize(
    ("number", "shown"), [(1, 1), (99, 99), (100, 100), (104, 100), (105, 100), (1049, 1000), (123_456, 120_000)]
)
def test_a_declared_size_keeps_two_digits(number: int, shown: int) -> None:
    assert _two_digits(number) == shown


def test_taking_a_dataset_back_tells_pysyft_of_each_request_and_the_owner_how_many(desk: Desk) -> None:
    told: list[tuple[str, bool]] = []
    desk.datasite.project = lambda record: told.append((record.id, record.status is RequestStatus.APPROVED))  # type: ignore[method-assign]
    for id in ("approved-1", "waiting-2", "denied-3"):
        desk.ask(id)
    desk.act("approve", {"request": "approved-1"})
    desk.act("deny", {"request": "denied-3", "reason": "No."})
    assert desk.act("retire", {"name": "flu"}) == {"closed": 2}
    assert told == [("approved-1", False), ("waiting-2", False)]
    assert desk.datasite.ledger.budgets.balance(desk.schema.population).reserved_nano == 0
    (row,) = desk.datasite.audit_log.entries(search="retire")
    assert (row.object, row.details) == ("flu", {"closed": 2})
    with pytest.raises(InvalidRequest, match="is published here"):
        desk.act("retire", {"name": "flu"})


# What the owner alone is told


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Matrices that PySyft was handed."""
    kept: list[Any] = []

    def upload(self: PySyftAccounts, name: str, description: str, private: Any, mock: Any) -> str:
        kept.append(private)
        return f"asset-{len(kept)}"

    monkeypatch.setattr(PySyftAccounts, "upload", upload, raising=False)
    monkeypatch.setattr(PySyftAccounts, "forget_datasets", lambda self, keep: None, raising=False)
    return kept


def table(path: Path, *identifiers: str) -> str:
    rows = [f"{identifier},{30 + place % 9},37.0,1,0,1" for place, identifier in enumerate(identifiers)]
    path.write_text("\n".join(["patient,age,temperature,cough,onset,influenza", *rows]) + "\n", encoding="utf-8")
    return str(path)


def traces(desk: Desk) -> tuple[Any, int, set[str]]:
    directory = desk.datasite.settings.directory
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return desk.datasite.ledger.entries.head(), len(desk.datasite.audit_log.entries()), files


CHECKED = ("table", "sql", "database", "password_file", "schema", "budget")
NEW = SCHEMA.replace('"flu"', '"icu"').replace('population = "patients"', 'population = "Patients 2"')
TWICE = ("7", "007", "p1", "P1", "NA", *(f"q{number}" for number in range(30)))


def check(desk: Desk, role: Role = Role.OWNER, **changes: Any) -> dict[str, Any]:
    facts = {"sql": None, "database": None, "password_file": None, "schema": SCHEMA, "budget": [6.0, 1e-5], **changes}
    return desk.act("check_publication", {name: facts[name] for name in CHECKED}, role=role)  # type: ignore[no-any-return]


def test_a_check_says_what_publishing_would_and_leaves_no_trace(desk: Desk, tmp_path: Path, stored: list[Any]) -> None:
    path = table(tmp_path / "t.csv", *TWICE)
    before = traces(desk)
    seen = check(desk, table=path)
    assert (seen["records"], seen["patients"]) == (35, 35)
    assert [concern["count"] for concern in seen["concerns"]] == [1, 1, 1]
    assert traces(desk) == before
    assert not stored
    publish(desk, table=path)
    assert desk.act("publication_report", {"name": "flu"})["concerns"] == seen["concerns"]


def test_a_check_refuses_what_publishing_refuses(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Choose one table"):
        check(desk, table=None)
    with pytest.raises(DataRefused, match="row 2, column 'patient': is empty"):
        check(desk, table=table(tmp_path / "t.csv", " "))
    with pytest.raises(WrongStatus, match="whose budget it stays on"):
        check(desk, table="nothing.csv", schema=SCHEMA.replace('population = "patients"', 'population = "fresh"'))


@pytest.mark.parametrize("role", [Role.SECOND_REVIEWER, Role.AUDITOR, Role.RESEARCHER])
def test_only_the_owner_is_told(desk: Desk, tmp_path: Path, stored: list[Any], role: Role) -> None:
    publish(desk, table=table(tmp_path / "t.csv", *TWICE))
    for action, arguments in (("publication_report", {"name": "flu"}), ("check_publication", {})):
        with pytest.raises(PermissionRefused):
            desk.act(action, arguments, role=role)
    if role is not Role.RESEARCHER:
        version = desk.datasite.ledger.datasets.get(name="flu").version
        page = desk.browser(role).client.get(f"/datasets/{version}").text
        assert "What publishing noticed" not in page
        assert "capital letters" not in page


def test_the_owner_reads_the_report_again_in_the_browser(desk: Desk, tmp_path: Path, stored: list[Any]) -> None:
    publish(desk, table=table(tmp_path / "t.csv", *TWICE))
    version = desk.datasite.ledger.datasets.get(name="flu").version
    page = desk.browser(Role.OWNER).client.get(f"/datasets/{version}").text
    assert "What publishing noticed" in page
    assert "1 identifier(s) differ from another one only by capital letters, as P1 and p1." in page


def test_nothing_of_a_report_reaches_researchers_or_the_log(
    desk: Desk, tmp_path: Path, stored: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Two tables that differ in what is noticed alone are described alike."""
    described = []
    for identifiers in (TWICE, tuple(f"q{number}" for number in range(35))):
        publish(desk, table=table(tmp_path / "t.csv", *identifiers))
        shown = ForResearchers(desk.datasite).describe(RESEARCHER)
        described.append(re.sub(r'"(version|asset)": "[^"]*"', "", json.dumps(shown)))
        (row, *_) = desk.datasite.audit_log.entries(search="publish")
        assert set(row.details) == {"version", "size_kind"}
    assert described[0] == described[1]
    assert "identifier" not in described[0] + caplog.text


def test_patients_of_another_population_and_a_name_like_it_are_noticed(
    desk: Desk, tmp_path: Path, stored: list[Any]
) -> None:
    publish(desk, table=table(tmp_path / "t.csv", *(f"q{number}" for number in range(30))))
    path = table(tmp_path / "u.csv", *(f"q{number}" for number in range(20, 50)))
    named, shared = check(desk, table=path, schema=NEW)["concerns"]
    assert "'Patients 2' is new, and its name looks like 'patients'" in named["what"]
    assert shared["what"].startswith("10 of the 30 identifiers in this table are also in 'patients'")
    desk.act("retire", {"name": "flu"})  # its patients are recognised still
    assert check(desk, table=path, schema=NEW)["concerns"][1]["count"] == 10


def test_a_delta_too_large_for_the_patients_is_noticed(desk: Desk, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", *(f"q{number}" for number in range(100)))
    new = SCHEMA.replace('"flu"', '"icu"').replace('population = "patients"', 'population = "others"')
    (concern,) = check(desk, table=path, schema=new, budget=[6.0, 0.01])["concerns"]
    assert "δ = 0.01 is not below 1 in 100" in concern["what"]
    assert not check(desk, table=path, schema=new)["concerns"]


def test_a_publication_that_fails_leaves_no_report(
    desk: Desk, tmp_path: Path, stored: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk.datasite.ledger.datasets, "publish", _fails)
    with pytest.raises(RuntimeError):
        publish(desk, table=table(tmp_path / "t.csv", *TWICE))
    folder = desk.datasite.settings.directory / "publications"
    assert not list(folder.iterdir())


def _fails(*_: Any, **__: Any) -> None:
    raise RuntimeError


XRAYS = f"""{SCHEMA}
[tensors.xray]
shape = [4]
"""


@pytest.mark.process
def test_with_one_bad_tensor_nothing_is_published_and_no_file_stays(desk: Desk, tmp_path: Path) -> None:
    table = write_table(tmp_path / "visits.csv", patients=2).read_text().splitlines()
    rows = [f"{row},some.npy" for row in table[1:]]
    (tmp_path / "visits.csv").write_text(
        "\n".join([f"{table[0]},xray", *rows[:-1], rows[-1].replace("some", "bad"), ""])
    )
    np.save(tmp_path / "some.npy", np.zeros(4))
    np.save(tmp_path / "bad.npy", np.full(4, np.nan))
    with pytest.raises(DataRefused, match=f"row {len(table)}, column 'xray': 'bad.npy' holds NaN"):
        publish(desk, schema=XRAYS, table=str(tmp_path / "visits.csv"))
    folder = desk.datasite.settings.directory / "tensors"
    assert not folder.exists() or not list(folder.iterdir())
    assert not desk.datasite.publishing


def test_tensors_that_no_schema_declares_are_refused(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="declares no tensor"):
        publish(desk, tensors="images")


@pytest.mark.parametrize(
    ("address", "most", "refused"), [("", 34, False), ("jobs:9500", 35, False), ("jobs:9500", 34, True)]
)
def test_a_table_with_more_records_than_are_sent_to_a_runner_elsewhere_is_refused(
    desk: Desk, tmp_path: Path, stored: list[Any], address: str, most: int, refused: bool
) -> None:
    """When it is published, and to its owner: a round that refused it would tell a researcher."""
    desk.datasite.settings = replace(desk.datasite.settings, runner_address=address, runner_records=most)
    path = table(tmp_path / "t.csv", *TWICE)
    if refused:
        for refusing in (check, publish):
            with pytest.raises(
                DataRefused, match=r"has 35 records, and the runner elsewhere is sent runner_records=34"
            ):
                refusing(desk, table=path)
        assert not stored
    else:
        publish(desk, table=path)
        assert len(stored) == 1
