"""What the `datasite` command says to somebody who errs, on a directory that nobody serves."""

from __future__ import annotations

import dataclasses
import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from datasites.actions.publishing import publish
from datasites.cli import display, shell
from datasites.cli import main as command_line
from datasites.datasite import Datasite
from datasites.directory import create_directory, locked
from datasites.ledger.records import DatasetRecord
from datasites.people.roles import Actor, Role
from datasites.serve import open_datasite
from datasites.settings import Settings
from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from policies.privacy.budget import PrivacyBudget
from policies.source.statuses import RequestStatus

SCHEMA = """
name = "flu"
population = "hospital-a"
patient = "patient"
[columns.age]
kind = "integer"
minimum = 0
maximum = 110
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("datasite") / "hospital"
    settings = create_directory(made, name="A", host="127.0.0.1", port=9400, owner_email="owner@datasite.example")
    Datasite.create(settings, owner_password="long-enough-password")
    return made


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["datasite", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(str(ended.value.code))


@pytest.mark.parametrize("option", ["--schema", "--password-file"])
def test_a_file_that_is_missing_is_named_in_one_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    command = {
        "--schema": ["publish", "visits.csv", "--patients", "9"],
        "--password-file": ["researchers", "add", "ada@university.example", "--name", "Ada"],
    }[option]
    assert _run(monkeypatch, *command, "--dir", directory, option, "no.file") == 1
    assert capsys.readouterr().err == f"Error: {option} no.file cannot be read: No such file or directory.\n"


def test_a_status_that_is_none_is_refused_with_those_that_are(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "requests", "--dir", directory, "--status", "waiting") == 2
    said = capsys.readouterr().err
    assert all(status.value in said for status in RequestStatus)
    with pytest.raises(InvalidRequest, match=r"status='waiting' is not known\. Use one of submitted, checked"):
        shell.act(directory, "requests", status="waiting")


def test_an_error_keeps_its_square_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DatasiteError("'39.3' is outside [30, 39], see [columns.age]")

    monkeypatch.setattr(command_line, "act", refuse)
    assert _run(monkeypatch, "log", "--dir", tmp_path) == 1
    assert capsys.readouterr().err == "Error: '39.3' is outside [30, 39], see [columns.age]\n"


def test_a_command_waits_while_a_datasite_starts(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holding = threading.Event()

    def start() -> None:
        with locked(directory):
            holding.set()
            time.sleep(0.5)

    starting = threading.Thread(target=start)
    starting.start()
    holding.wait()
    assert shell.act(directory, "requests") == []
    starting.join()
    assert capsys.readouterr().err.count("`datasite serve` is starting there") == 1


def test_a_command_does_not_wait_for_ever(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = dataclasses.replace(Settings.load(directory), start_seconds=0.3)
    monkeypatch.setattr(Settings, "load", lambda path: impatient)
    said = r"in use by another process for start_seconds=0\.3, and none serves there yet\. .* raise start_seconds"
    with locked(directory), pytest.raises(Unavailable, match=said):
        shell.act(directory, "requests")


def test_a_name_under_another_population_is_refused_before_anything_is_read_or_charged(directory: Path) -> None:
    settings = _settings(directory)
    with open_datasite(settings) as datasite:
        datasite.ledger.budgets.create_population("elsewhere", PrivacyBudget(6.0, 1e-5), actor="owner")
        record = DatasetRecord(
            name="flu", version="v1", population="elsewhere", schema_json="{}", patients=100, size_kind="declared"
        )
        datasite.ledger.datasets.publish(record, actor="owner")
        before = datasite.ledger.entries.head()
        with pytest.raises(WrongStatus, match=r"published of population 'elsewhere'.*says 'hospital-a'"):
            publish(
                datasite,
                Actor("owner", Role.OWNER),
                table="no-such-table.csv",
                sql=None,
                database=None,
                password_file=None,
                schema=SCHEMA,
                patients=None,
                count_epsilon=0.1,
                budget=[6.0, 1e-5],
                public_mock=None,
            )
        assert datasite.ledger.entries.head() == before


def test_a_datasite_starts_though_a_table_cannot_be_deleted(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn:
        def forget_datasets(self, *, keep: set[str]) -> None:
            raise RuntimeError("BlobStorageEntry: not found")

    with open_datasite(_settings(directory)) as datasite:
        datasite._syft = Stubborn()  # type: ignore[assignment]
        datasite.forget_tables()
    assert "could not be deleted" in caplog.text


def test_tables_show_times_to_the_second_and_details_as_words() -> None:
    out = Console(file=io.StringIO(), width=120)
    row = {"seq": 1, "at": "2026-11-23T08:09:08.698762+00:00", "who": "root", "what": "publish", "object": "flu"}
    display.audit_log(out, [{**row, "details": {"size_kind": "declared", "version": "v1"}}])
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    assert "2026-11-23 08:09:08 " in shown
    assert "698762" not in shown
    assert "size_kind declared, version v1" in shown


def _settings(directory: Path) -> Settings:
    return Settings.load(directory)


def test_releases_show_the_head_of_a_digest_and_json_all_of_it() -> None:
    out = Console(file=io.StringIO(), width=200)
    digest = "66aa81" * 10 + "feed"
    display.releases(
        out, [{"request": "594e6621aa", "round": 1, "released_at": "2026-11-23T08:09:08", "digest": digest}]
    )
    assert " 66aa8166aa81 " in out.file.getvalue()  # type: ignore[attr-defined]
