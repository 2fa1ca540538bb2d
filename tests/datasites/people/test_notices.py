"""E-mail to the owner: what it says, how often it is sent, and what it never carries."""

from __future__ import annotations

import smtplib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasites.directory import create_directory
from datasites.ledger.records import CodeRequestRecord
from datasites.people import notices as module
from datasites.people.notices import Notices, message
from datasites.settings import Settings

RECORD = CodeRequestRecord(
    id="a1b2c3d4", function="flu_counts", researcher="ada@university.example", dataset="flu", version="v1",
    population="patients", source="SOURCE", purpose="PURPOSE",
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = create_directory(
        tmp_path / "site", name="City", host="127.0.0.1", port=9400, owner_email="o@hospital.example"
    )
    return replace(made, smtp_host="mail.hospital.example", smtp_security="none")


def test_a_message_names_what_the_inbox_shows_and_no_text_of_the_researchers(settings: Settings) -> None:
    made = message(settings, RECORD)
    text = made.as_string()
    for shown in ("flu_counts", "ada@university.example", "/requests/a1b2c3d4"):
        assert shown in text
    assert "SOURCE" not in text
    assert "PURPOSE" not in text
    assert made["To"] == made["From"] == "o@hospital.example"


def test_whoever_asks_much_fills_no_mailbox(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(module, "_send", lambda _, record, *__: sent.append(record.id))
    now = [0.0]
    notices = Notices(settings, least_seconds=60, clock=lambda: now[0])
    for now[0] in (0.0, 30.0, 59.0, 60.0, 61.0):
        if thread := notices.waits(RECORD):
            thread.join()
    assert len(sent) == 2


def test_none_is_sent_where_no_server_is_set(settings: Settings) -> None:
    assert Notices(replace(settings, smtp_host="")).waits(RECORD) is None


@pytest.mark.parametrize("error", [ConnectionRefusedError(), smtplib.SMTPException(), TimeoutError()])
def test_a_mail_server_that_is_down_is_noted_in_the_log_and_stops_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(smtplib, "SMTP", fails)
    thread = Notices(settings).waits(RECORD)
    assert thread is not None
    thread.join(5)
    assert "was not sent" in caplog.text
    assert RECORD.researcher not in caplog.text
