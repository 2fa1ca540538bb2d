"""Every payload of the corpus: refused where it must be, and harmless behind that wall as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.attacks.exporting import Exporting
from tests.attacks.guard.attacker import Site
from tests.attacks.ledgers import prepared
from tests.attacks.payloads import TITLES, cases, payloads
from tests.attacks.running import Running

CASES = cases()
TEXTS = [name for name, each in CASES.items() if each.is_text]


@pytest.mark.parametrize("name", TEXTS)
def test_inspection_says_of_a_text_what_its_header_says(name: str, exporting: Exporting) -> None:
    payload, codes = CASES[name], exporting.codes(CASES[name])
    if payload.must[0] == "inspection":
        assert payload.must[1] in codes
    else:
        assert not codes


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_reaches_nothing_in_the_exporter_without_inspection(name: str, exporting: Exporting) -> None:
    reached, graph = exporting.bypass(CASES[name])
    assert reached == []
    assert not (graph and CASES[name].must[0] == "exporter")


TARGETS = {name: each for name, each in CASES.items() if not each.is_text}


@pytest.mark.parametrize("name", [name for name, each in TARGETS.items() if each.category == "guard"])
def test_a_signed_in_attacker_reaches_nothing(name: str, ours: Site) -> None:
    assert not TARGETS[name].function()(ours)


@pytest.mark.parametrize("name", [name for name, each in TARGETS.items() if each.category == "ledger"])
def test_the_ledger_notices_or_refuses(name: str, tmp_path: Path) -> None:
    assert not TARGETS[name].function()(prepared(tmp_path / "ledger.db"))


@pytest.mark.parametrize("name", [name for name, each in TARGETS.items() if each.category not in ("guard", "ledger")])
def test_a_runner_reaches_nothing_for_hand_made_jobs(name: str, running: Running) -> None:
    running.witnesses.seen("")
    assert not TARGETS[name].function()(running)
    assert running.witnesses.seen(running.told) == []


def test_an_honest_job_ends_with_a_release(running: Running) -> None:
    """Without which the tests of hand-made jobs would say nothing."""
    for job in ("train", "evaluate", "statistics"):
        assert running.accepts(job, changes={"held": True}), running.told
        assert not running.tells_rows()


def test_what_reaches_something_is_seen(exporting: Exporting) -> None:
    """The witnesses' own check: a payload that may say what it likes is heard, and an honest one gives a graph."""
    claims = replace(CASES["files/read_with_open"], body="raise ValueError(DONE)\n")
    assert exporting.bypass(claims) == (["done"], False)
    honest = replace(claims, body=CASES["files/read_with_open"].body.replace("raise ValueError", "max(0, 1)  #"))
    assert exporting.bypass(honest) == ([], True)


def test_there_are_enough_of_every_category() -> None:
    assert len(payloads()) >= 150
    for category in TITLES:
        assert len(payloads(category)) >= 6, category
    assert len({each.tries for each in payloads()}) == len(payloads())
