"""Every status, kind, role and rule has words, so that no page falls back to a name of the code."""

from __future__ import annotations

import dataclasses

import pytest

from datasites.console import wording
from datasites.ledger.entries import EntryKind
from datasites.people.roles import CONSOLE
from datasites.review.policy import MECHANISMS, Rules
from policies.errors import DataRefused
from policies.source.statuses import RequestStatus, RunStatus

TONES = {"wait", "good", "bad", "quiet"}
ELSEWHERE = {"deny_at_once", "allowed_mechanisms", "yearly_plans"}  # boxes to tick, and a table of the file


@pytest.mark.parametrize("status", RequestStatus)
def test_every_status_of_a_request_has_words_and_a_tone(status: RequestStatus) -> None:
    words, tone = wording.status(status)
    assert words
    assert tone in TONES


@pytest.mark.parametrize("status", RunStatus)
def test_every_status_of_a_run_has_words_and_a_tone(status: RunStatus) -> None:
    words, tone = wording.run_status(status)
    assert words
    assert tone in TONES


def test_every_kind_of_entry_of_work_and_of_person_has_words() -> None:
    assert set(wording.ENTRY_KINDS) == set(EntryKind)
    assert set(wording.KINDS) == set(MECHANISMS)
    assert set(wording.ROLES) == set(CONSOLE)
    assert wording.kind_text(None) == "—"


def test_every_rule_of_the_policy_is_in_the_form() -> None:
    named = {name for _, _, rules in wording.RULES for name, _, _ in rules}
    assert named | ELSEWHERE == {field.name for field in dataclasses.fields(Rules)}


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("curl/8", "A program"),
    ],
)
def test_a_browser_is_named_as_people_know_it(agent: str, text: str) -> None:
    assert wording.browser(agent) == text


def test_a_page_shows_the_sentence_of_an_error_without_its_table() -> None:
    assert wording.public(DataRefused("Two faults.\nrow 2\nrow 3")) == "Two faults."
