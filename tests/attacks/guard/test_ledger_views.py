"""Jobs, news, projects and passwords that a stock client asks for: another's, all, and with broken arguments."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from syft.service.job.job_stash import JobStatus
from syft.types.uid import UID

from tests.attacks.guard.attacker import OTHER, OWNER, PASSWORD, RESEARCHER, Refusal, Site, wait_for
from tests.factories import DatasiteProcess, statistics_source

PROJECT = "Winter study"


@pytest.fixture(scope="module")
def job(ours: Site, datasite_process: DatasiteProcess) -> Any:
    """A finished run of one researcher, under a project, with a word of the owner on its request."""
    ours.call(RESEARCHER, "code.request_code_execution", code=ours.submission(statistics_source("viewed")), reason="")
    asked = next(line for line in datasite_process.json("requests") if line["function"] == "viewed")
    datasite_process.cli("projects", "make", PROJECT, "--parties", "Two of us", "--ends", "2090-01-01")
    datasite_process.cli("projects", "file", asked["id"], PROJECT)
    datasite_process.approve_all()
    begun = ours.call(RESEARCHER, "code.call", uid=UID(asked["id"]), round=1, blocking=False)
    assert begun.status in (JobStatus.PROCESSING, JobStatus.COMPLETED)
    assert wait_for(lambda: ours.call(RESEARCHER, "job.get", uid=begun.id).resolved, seconds=60)
    return ours.call(RESEARCHER, "job.get", uid=begun.id)


def test_a_run_is_a_job_of_its_researcher_alone(ours: Site, job: Any) -> None:
    assert job.status is JobStatus.COMPLETED
    assert job.id in [mine.id for mine in ours.call(RESEARCHER, "job.get_all")]
    assert job.id not in [theirs.id for theirs in ours.call(OTHER, "job.get_all")]
    assert ours.call(OTHER, "job.get_by_user_code_id", user_code_id=job.user_code_id) == []
    with pytest.raises(Refusal, match="no such run"):
        ours.call(OTHER, "job.get", uid=job.id)
    for uid in (UID(), job.user_code_id, ours.asset().action_id):
        with pytest.raises(Refusal, match="no such run"):
            ours.call(RESEARCHER, "job.get", uid=uid)


def test_an_owners_job_and_every_list_have_no_release_and_no_reason(ours: Site, job: Any) -> None:
    """A release is its researcher's; why a run failed is the owner's, and read elsewhere."""
    assert job.result is not None
    assert ours.call(OWNER, "job.get", uid=job.id).result is None
    for who in (OWNER, RESEARCHER):
        assert {seen.result for seen in ours.call(who, "job.get_all")} == {None}
    for who in (OTHER, OWNER):
        with pytest.raises(Refusal, match="no such object"):
            ours.call(who, "action.get", uid=job.result.id)


def test_a_job_gives_one_object_however_often_it_is_asked_for(ours: Site, job: Any) -> None:
    blobs = len(list((ours.directory / "blobs").iterdir()))
    for _ in range(5):
        assert ours.call(RESEARCHER, "job.get", uid=job.id).result.id == job.result.id
    assert len(list((ours.directory / "blobs").iterdir())) == blobs


@pytest.mark.parametrize("path", ["job.restart", "job.kill", "job.delete", "job.update", "log.add", "log.get_stderr"])
def test_nobody_changes_a_run_through_its_job(ours: Site, job: Any, path: str) -> None:
    with pytest.raises(Refusal, match="may not call"):
        ours.call(RESEARCHER, path, job.id)


def test_only_a_function_is_called_without_waiting(ours: Site) -> None:
    for path in ("dataset.get_all", "job.get_all", "datasite.requests"):
        with pytest.raises(Refusal, match="Only blocking calls"):
            ours.call(RESEARCHER, path, blocking=False)


def test_news_and_projects_tell_nothing_of_others(ours: Site, job: Any) -> None:
    mine = ours.call(RESEARCHER, "notifications.get_all")
    assert any("viewed" in piece.subject for piece in mine)
    assert ours.call(OTHER, "notifications.get_all") == ours.call(OTHER, "notifications.get_all_unread") == []
    (project,) = ours.call(RESEARCHER, "project.get_all")
    assert project.name == PROJECT
    assert len(project.events) == 1
    assert ours.call(OTHER, "project.get_all") == []
    for path, arguments in (("by_name", {"name": PROJECT}), ("by_uid", {"uid": project.id}), ("by_name", {"name": 7})):
        with pytest.raises(Refusal, match="no such project"):
            ours.call(OTHER, f"project.get_{path}", **arguments)
    assert ours.call(OWNER, "project.get_by_name", name=PROJECT).id == project.id


@pytest.mark.parametrize("uid", ["", 3, None, b"0" * 100_000, ["x"] * 1000])
def test_an_identifier_that_is_none_is_refused(ours: Site, uid: Any) -> None:
    for path in ("job.get", "project.get_by_uid"):
        with pytest.raises(Refusal):
            ours.call(RESEARCHER, path, uid=uid)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": 128},
        {"email": "somebody@else.example"},
        {"name": "Somebody"},
        {"password": "a password of an attacker", "role": 128},
        {"password": ["x"] * 1000},
        {"password": None},
        {"mock_execution_permission": True},
        {},
    ],
)
def test_an_account_changes_its_own_password_and_nothing_else(ours: Site, changes: dict[str, Any]) -> None:
    own = ours.call(OTHER, "user.get_current_user")
    with pytest.raises(Refusal, match="The hospital keeps accounts"):
        ours.call(OTHER, "user.update", uid=own.id, **changes)
    assert ours.call(OTHER, "user.get_current_user").to_dict() == own.to_dict()


@pytest.mark.parametrize("victim", [RESEARCHER, OWNER])
def test_nobody_sets_anothers_password(ours: Site, victim: str) -> None:
    account = ours.call(victim, "user.get_current_user")
    with pytest.raises(Refusal, match="The hospital keeps accounts"):
        ours.call(OTHER, "user.update", uid=account.id, password="a password of an attacker")
    assert ours.login(victim, PASSWORD)


def test_an_owners_key_does_not_change_the_password_that_opens_the_console(ours: Site) -> None:
    own = ours.call(OWNER, "user.get_current_user")
    with pytest.raises(Refusal, match="datasite password"):
        ours.call(OWNER, "user.update", uid=own.id, password="a password of a thief")
    assert ours.login(OWNER, PASSWORD)


@pytest.mark.parametrize("password", ["short", "x" * 73, "x" * 900_000, "with\0zero byte in it"])
def test_a_password_that_cannot_be_kept_is_refused(ours: Site, password: str) -> None:
    own = ours.call(OTHER, "user.get_current_user")
    with pytest.raises(Refusal, match=r"characters; at least|longer than 72 bytes"):
        ours.call(OTHER, "user.update", uid=own.id, password=password)
    assert ours.login(OTHER, PASSWORD)


def test_a_new_password_ends_the_key_that_set_it_and_is_in_the_audit_log(
    ours: Site, datasite_process: DatasiteProcess, tmp_path: Any
) -> None:
    own, changed = ours.call(OTHER, "user.get_current_user"), "a new password of my own"
    try:
        ours.call(OTHER, "user.update", uid=own.id, password=changed)
        with pytest.raises(Refusal, match="was changed"):
            ours.call(OTHER, "dataset.get_all")
        assert ours.login(OTHER, changed)
        with pytest.raises(Refusal):
            ours.login(OTHER, PASSWORD)
        written = datasite_process.cli("log", "--json").stdout
        assert "set own password" in written
        assert changed not in written
    finally:
        ours.keys.pop(OTHER, None)
        (tmp_path / "again").write_text(PASSWORD)
        done: subprocess.CompletedProcess[str] = datasite_process.cli(
            "password", OTHER, "--password-file", str(tmp_path / "again")
        )
        assert done.returncode == 0
