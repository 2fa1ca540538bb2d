"""Projects, attachments and drafted schemas in the console: who may, what is refused, and how a file is handed out."""

from __future__ import annotations

import hashlib
import html
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasites.actions import attachments as attachments_action
from datasites.console.datasets_views import SCRATCH, remove_uploads
from datasites.people.roles import Role
from datasites.review.decisions import Decisions
from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, Unavailable, WrongStatus
from policies.source.statuses import RequestStatus
from tests.browser.desk import Browser, Desk
from tests.factories import RESEARCHER

REQUEST = "1" * 32
PDF = b"%PDF-1.7\n<script>alert(1)</script>"
LATER = "2099-06-30"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    made.ask(REQUEST)
    yield made
    made.close()


def _send(browser: Browser, address: str, field: str, name: str, content: bytes, **fields: str) -> Any:
    return browser.client.post(
        address, data={"csrf": browser.csrf, **fields}, files={field: (name, content, "text/html")}
    )


def _notice(browser: Browser, answer: Any) -> str:
    page = browser.get(answer.headers["location"]).text
    said = re.search(r'class="banner (?:good|bad)"[^>]*>([^<]*)', page)
    return said[1] if said else ""


# -- projects ----------------------------------------------------------------------------------------------------------


def test_a_project_is_made_filled_and_closed_in_the_console(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    made = owner.post("/projects", name="Flu <b>2026</b>", parties="General\r\nUniversity", ends=LATER)
    place = made.headers["location"]
    owner.post(f"/requests/{REQUEST}/project", project=place.rpartition("/")[2])
    assert "Flu &lt;b&gt;2026&lt;/b&gt;" in owner.get(f"/requests/{REQUEST}").text
    assert f"goes on until {LATER}" in owner.get(f"/requests/{REQUEST}").text
    desk.act("approve", {"request": REQUEST})
    assert "flu" in owner.get(place).text
    owner.post(f"{place}/close")
    assert desk.datasite.ledger.requests.get(REQUEST).status is RequestStatus.EXPIRED
    assert "was closed by the data owner" in owner.get(f"/requests/{REQUEST}").text
    assert [row.what for row in desk.datasite.audit_log.entries() if "project" in row.what] == [
        "make project",
        "close project",
    ]


def test_the_judge_refuses_what_belongs_to_an_ended_project(desk: Desk) -> None:
    desk.act("make_project", {"name": "Flu", "parties": "General", "ends": LATER})
    desk.act("file_request", {"request": REQUEST, "project": "Flu"})
    desk.act("change_project", {"project": "Flu", "ends": "2020-01-01"})
    checks = {check["title"]: check for check in desk.act("show", {"request": REQUEST})["checks"]}
    assert checks["Project"]["passed"] is False
    with pytest.raises(DatasiteError, match="Project: The project Flu ended on 2020-01-01"):
        desk.act("approve", {"request": REQUEST})


def test_where_nobody_can_tell_the_judge_says_no(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: str) -> None:
        raise Unavailable("The ledger is unavailable.")

    monkeypatch.setattr(desk.datasite.ledger.projects, "of", broken)
    judged = Decisions._project_checks(desk.datasite.decisions, desk.datasite.ledger.requests.get(REQUEST))
    assert [check.passed for check in judged] == [False]


def test_a_later_day_is_in_the_audit_log_with_the_one_before(desk: Desk) -> None:
    desk.act("make_project", {"name": "Flu", "parties": "General", "ends": "2098-01-01"})
    desk.act("change_project", {"project": "Flu", "ends": LATER})
    row = next(row for row in desk.datasite.audit_log.entries() if row.what == "lengthen project")
    assert (row.details["before"], row.details["ends"]) == ("2098-01-01", LATER)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": ""}, "1 to 100 characters"),
        ({"name": "x" * 101}, "1 to 100 characters"),
        ({"name": "a\u202eb"}, r"U\+202E"),
        ({"parties": " "}, "Name who agreed"),
        ({"parties": "\x1b[2J"}, r"U\+001B"),
        ({"ends": "soon"}, "is no day"),
        ({"ends": "2020-01-01"}, "is over"),
        ({"ends": "9999-12-31"}, "after 2100-12-31"),
    ],
)
def test_what_is_no_project_is_refused(desk: Desk, wrong: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        desk.act("make_project", {"name": "Flu", "parties": "General", "ends": LATER, **wrong})
    assert desk.act("projects", {}) == []


def test_only_the_owner_makes_projects_and_everybody_of_the_console_reads(desk: Desk) -> None:
    for role in (Role.SECOND_REVIEWER, Role.AUDITOR, Role.RESEARCHER):
        for action in ("make_project", "change_project", "close_project", "file_request", "attach"):
            with pytest.raises(PermissionRefused):
                desk.act(action, {}, role=role)
    desk.act("make_project", {"name": "Flu", "parties": "General", "ends": LATER})
    page = desk.browser(Role.AUDITOR).get("/projects").text
    assert "Flu" in page
    assert "Make a project" not in page


def test_a_name_that_goes_on_nowhere_is_refused_alike_whether_it_ended_or_never_was(desk: Desk) -> None:
    desk.act("make_project", {"name": "Ended", "parties": "General", "ends": LATER})
    desk.act("close_project", {"project": "Ended"})
    said = set()
    for name in ("Ended", "Never"):
        with pytest.raises(InvalidRequest) as refusal:
            desk.datasite.submissions.submit(RESEARCHER, "def a(): ...", "asset", "", dict, name)
        said.add(str(refusal.value))
    assert len(said) == 1


# -- attachments -------------------------------------------------------------------------------------------------------


def test_an_attachment_is_handed_out_as_a_file_that_no_page_shows(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    _send(owner, f"/requests/{REQUEST}/attach", "file", "Ethikvotum Müller.pdf", PDF)
    page = desk.browser(Role.AUDITOR)
    address = re.search(r'href="(/attachments/[0-9a-f]{32})"', page.get(f"/requests/{REQUEST}").text)
    assert address is not None
    answer = page.get(address[1])
    assert answer.content == PDF
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert "Ethikvotum%20M%C3%BCller.pdf" in answer.headers["content-disposition"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    (row,) = [row for row in desk.datasite.audit_log.entries() if row.what == "attach"]
    assert row.details["sha256"] == hashlib.sha256(PDF).hexdigest()
    (file,) = desk.datasite.settings.attachments.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(desk.datasite.settings.directory.glob(f"{SCRATCH}*")) == []


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", b"<html>", "is no PDF"),
        ("a.pdf", b"\n%PDF-1.7", "is no PDF"),
        ("a.html", PDF, "is not a PDF file"),
        ("a.pdf", PDF + bytes(1 << 20), "larger than 1 MiB"),
        ("a.pdf", b"", "No file was chosen"),
    ],
)
def test_what_is_no_pdf_is_not_attached(desk: Desk, name: str, content: bytes, why: str) -> None:
    desk.datasite.settings = replace(desk.datasite.settings, attachment_mib=1)
    owner = desk.browser(Role.OWNER)
    answer = _send(owner, f"/requests/{REQUEST}/attach", "file", name, content)
    assert why in _notice(owner, answer)
    assert desk.act("show", {"request": REQUEST})["attachments"] == []
    assert list(desk.datasite.settings.directory.glob("attachments/*")) == []


def test_there_are_only_so_many_attachments(desk: Desk, tmp_path: Path) -> None:
    desk.datasite.settings = replace(desk.datasite.settings, most_attachments=1)
    (tmp_path / "a.pdf").write_bytes(PDF)
    attached = {"file": str(tmp_path / "a.pdf"), "name": "a.pdf", "request": REQUEST}
    desk.act("attach", attached)
    with pytest.raises(WrongStatus, match="most_attachments"):
        desk.act("attach", attached)
    assert len(list(desk.datasite.settings.attachments.iterdir())) == 1
    desk.act("make_project", {"name": "Flu", "parties": "General", "ends": LATER})
    desk.act("attach", {**attached, "request": "", "project": "Flu"})
    assert len(desk.act("project", {"project": "Flu"})["attachments"]) == 1


def test_a_file_that_changed_on_disk_is_not_handed_out(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(PDF)
    kept = desk.act("attach", {"file": str(tmp_path / "a.pdf"), "name": "../../a.pdf", "request": REQUEST})
    assert kept["name"] == "a.pdf"
    (file,) = desk.datasite.settings.attachments.iterdir()
    file.write_bytes(PDF + b"!")
    with pytest.raises(Unavailable, match="not the one that was attached"):
        desk.act("attachment", {"id": kept["id"]})
    file.unlink()
    with pytest.raises(Unavailable, match="missing"):
        desk.act("attachment", {"id": kept["id"]})
    for id in ("0" * 32, "../ledger.db"):
        with pytest.raises(InvalidRequest, match="no such attachment"):
            desk.act("attachment", {"id": id})


@pytest.mark.parametrize("name", ["a\r\nX: y.pdf", '"; x="\u202e.pdf', "", "." * 300, "ward 7.PDF"])
def test_a_files_name_is_letters_and_a_few_marks(name: str) -> None:
    shown = attachments_action._shown(name)
    assert re.fullmatch(r"[\w ().-]{1,96}\.pdf", shown)


def test_a_pipe_keeps_nobody_waiting(desk: Desk, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pdf")
    with pytest.raises(InvalidRequest, match="no regular file"):
        desk.act("attach", {"file": str(tmp_path / "a.pdf"), "name": "a.pdf", "request": REQUEST})


# -- drafting ----------------------------------------------------------------------------------------------------------

TABLE = b"patient_id,fever,ward\np1,38.25,cardiology\np2,37.5,surgery\n"
FINISHED = """\
name = "flu2"
population = "patients"
patient = "patient_id"
[columns.fever]
kind = "real"
minimum = 30.0
maximum = 45.0
missing = "refuse"
"""


def test_a_draft_names_columns_and_takes_no_value_and_the_upload_is_gone(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    page = _send(owner, "/datasets/draft", "table", "beds.csv", TABLE).text
    assert '[columns."fever"]' in html.unescape(page)
    assert "# minimum =" in page
    assert "name = &#34;beds&#34;" in page
    for value in ("38.25", "cardiology", "surgery", "p1"):
        assert value not in page
    assert list(desk.datasite.settings.directory.glob(f"{SCRATCH}*")) == []


def test_an_upload_that_a_kill_left_is_removed_at_the_next_start(desk: Desk) -> None:
    left = desk.datasite.settings.directory / f"{SCRATCH}left"
    left.mkdir()
    (left / "upload.csv").write_bytes(TABLE)
    remove_uploads(desk.datasite.settings.directory)
    assert not left.exists()


def test_a_draft_is_checked_saved_and_taken_on_to_publish(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    checked = owner.post("/datasets/draft/done", schema="name = 'a'\n", step="check")
    assert checked.status_code == 422
    assert "Not finished yet" in checked.text
    assert "is complete" in owner.post("/datasets/draft/done", schema=FINISHED, step="check").text
    saved = owner.post("/datasets/draft/done", schema=FINISHED.replace("\n", "\r\n"), step="save")
    assert saved.headers["content-disposition"] == 'attachment; filename="schema.toml"'
    assert saved.text == FINISHED
    page = owner.post("/datasets/draft/done", schema=FINISHED, step="publish").text
    assert 'action="/datasets/publish"' in page
    assert "[columns.fever]" in page


@pytest.mark.parametrize(("name", "content"), [("a.exe", TABLE), ("a.csv", b""), ("a.csv", b"1.5,2\n3,4\n")])
def test_what_is_no_table_is_refused_with_the_reason(desk: Desk, name: str, content: bytes) -> None:
    owner = desk.browser(Role.OWNER)
    assert _notice(owner, _send(owner, "/datasets/draft", "table", name, content))
