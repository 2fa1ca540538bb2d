"""Comments and projects through the real door: a researcher's client on one side, the owner's commands on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.errors import PermissionRefused
from researcher.client import Datasite
from tests.factories import OTHER, PASSWORD, RESEARCHER, DatasiteProcess, statistics_source

PDF = b"%PDF-1.7\nan approval"


def test_a_thread_and_a_project_through_the_door(shared_datasite: DatasiteProcess, tmp_path: Path) -> None:
    cli = shared_datasite.cli
    cli("projects", "make", "Flu 2026", "--parties", "General, University", "--ends", "2099-06-30")
    mine, other = (Datasite(shared_datasite.url, email, PASSWORD) for email in (RESEARCHER, OTHER))
    asset = mine.describe()["datasets"][0]["asset"]
    source = statistics_source("under_a_project")
    with pytest.raises(PermissionRefused, match="No project of this name goes on here"):
        mine.submit(source, asset, "To count.", "Flu 2027")
    code = mine.submit(source, asset, "To count.", "Flu 2026")
    plain = code.replace("-", "")
    shown = next(request for request in shared_datasite.json("requests") if request["id"].replace("-", "") == plain)
    assert shared_datasite.json("show", shown["id"])["project"]["name"] == "Flu 2026"

    mine.comment(code, "The protocol is with you.")
    cli("comment", shown["id"], "We read it.")
    assert [(comment["from"], comment["text"]) for comment in mine.comments(code)] == [
        ("researcher", "The protocol is with you."),
        ("data owner", "We read it."),
    ]
    for refused in (lambda: other.comments(code), lambda: other.comment(code, "Me too.")):
        with pytest.raises(PermissionRefused, match="no such request"):
            refused()
    with pytest.raises(PermissionRefused, match="do not show themselves"):
        mine.comment(code, "\x1b[2J")

    (tmp_path / "approval.pdf").write_bytes(PDF)
    cli("attach", str(tmp_path / "approval.pdf"), "--request", shown["id"])
    (attached,) = shared_datasite.json("show", shown["id"])["attachments"]
    cli("attachment", attached["id"], str(tmp_path / "back.pdf"))
    assert (tmp_path / "back.pdf").read_bytes() == PDF

    cli("projects", "close", "Flu 2026", "--yes")
    (project,) = shared_datasite.json("projects", "list")
    assert project["ended"]
    checks = {check["title"]: check["passed"] for check in shared_datasite.json("show", shown["id"])["checks"]}
    assert checks["Project"] is False
    mine.withdraw(code)
