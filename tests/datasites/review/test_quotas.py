"""Submissions have quotas by researcher, and the ledger, which forgets nothing, keeps little of what was refused."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import Answer
from datasites.review.planning import Planner
from datasites.review.submissions import LONGEST_REFUSED_SOURCE, SubmissionQuotas, Submissions
from policies.errors import InvalidRequest, Unavailable
from tests.browser.desk import Desk
from tests.factories import RESEARCHER, statistics_source, training_source

OTHER, ASSET = "other@university.example", "asset"


class Exporter:
    """A pool whose exporter takes a while to say that a model cannot leave as a graph."""

    def __init__(self) -> None:
        self.jobs = 0

    def run(self, *_: Any, **__: Any) -> Answer:
        self.jobs += 1
        time.sleep(0.05)
        return Answer({"event": "failed", "public": "No graph."}, b"", dict.fromkeys(PROTECTIONS, True))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    (flu,) = desk.datasite.ledger.datasets.list()
    monkeypatch.setattr(desk.datasite.ledger.datasets, "list", lambda: (flu.with_assets({"records": ASSET}),))
    yield desk
    desk.close()


class Submitting:
    """Submissions of a desk, with quotas and exporter of their own."""

    def __init__(self, desk: Desk, *, seconds: float = 1800.0, **quotas: int) -> None:
        self.ledger, self.exporter = desk.datasite.ledger, Exporter()
        planner = Planner(self.ledger, self.exporter, exporter_seconds_per_hour=seconds)  # type: ignore[arg-type]
        self.own = Submissions(self.ledger, planner, desk.datasite.decisions, SubmissionQuotas(**quotas))

    def submit(self, source: str, researcher: str = RESEARCHER, purpose: str = "To count.") -> str:
        code = secrets.token_hex(16)
        return self.own.submit(researcher, source, ASSET, purpose, lambda: {"code": code, "request": code}).id


def test_so_many_requests_wait_and_others_are_not_kept_from_asking(desk: Desk) -> None:
    submitting = Submitting(desk, open_requests=2)
    first = submitting.submit(statistics_source("one"))
    submitting.submit(statistics_source("two"))
    with pytest.raises(Unavailable, match=r"2 of your requests wait .* open_requests=2 may"):
        submitting.submit(statistics_source("three"))
    submitting.submit(statistics_source("three"), OTHER)
    submitting.ledger.transition(first, "withdrawn", actor=RESEARCHER, party="researcher")
    submitting.submit(statistics_source("three"))


def test_what_is_withdrawn_counts_for_the_day(desk: Desk) -> None:
    submitting = Submitting(desk, requests_per_day=2)
    for name in ("one", "two"):
        request = submitting.submit(statistics_source(name))
        submitting.ledger.transition(request, "withdrawn", actor=RESEARCHER, party="researcher")
    with pytest.raises(Unavailable, match="requests_per_day=2"):
        submitting.submit(statistics_source("three"))
    submitting.submit(statistics_source("three"), OTHER)


def test_a_refused_source_is_kept_by_its_beginning_and_its_digest(desk: Desk) -> None:
    """64 KiB that inspection refuses leave some 20 kB in the ledger, its findings and purpose among them."""
    submitting = Submitting(desk)
    source = "import os\n" * 6_500
    with pytest.raises(InvalidRequest, match="line 1"):
        submitting.submit(source, purpose="p" * 4_000)
    (record,) = submitting.ledger.requests.list(researcher=RESEARCHER)
    assert record.source.startswith(source[:LONGEST_REFUSED_SOURCE])
    assert hashlib.sha256(source.encode()).hexdigest() in record.source
    assert "65,000 characters" in record.source
    assert len(record.findings) == 50
    assert len(record.source) + len(record.findings_json) + len(record.purpose) < 25_000


def test_a_short_refused_source_is_kept_whole(desk: Desk) -> None:
    submitting = Submitting(desk)
    with pytest.raises(InvalidRequest):
        submitting.submit("import os\n")
    (record,) = submitting.ledger.requests.list(researcher=RESEARCHER)
    assert record.source == "import os\n"


def test_what_is_refused_fills_the_ledger_by_so_much_a_day(desk: Desk) -> None:
    """Thirty refused megabytes a minute were kept for ever."""
    submitting = Submitting(desk, refused_bytes_per_day=100_000)
    refused = 0
    while submitting.own._refused.left(RESEARCHER) > 0:
        refused += 1
        with pytest.raises(InvalidRequest):
            submitting.submit(f"import os  # {refused}\n" + "import os\n" * 5_000)
    with pytest.raises(Unavailable, match="refused_kib_per_day=97"):
        submitting.submit("import os\n")
    assert 3 < refused < 12
    kept = sum(len(record.source) + len(record.findings_json) for record in submitting.ledger.requests.list())
    assert kept < 130_000
    with pytest.raises(InvalidRequest):
        submitting.submit("import os\n", OTHER)
    assert not submitting.own.quote("import os\n", "flu", RESEARCHER).accepted  # a quote is not kept


def test_the_exporters_time_is_an_accounts_own(desk: Desk) -> None:
    submitting = Submitting(desk, seconds=0.12)
    for number in range(3):
        assert not submitting.own.quote(training_source(note=f"# {number}"), "flu", RESEARCHER).accepted
    for ask in (
        lambda: submitting.own.quote(training_source(note="# more"), "flu", RESEARCHER),
        lambda: submitting.submit(training_source(note="# more")),
    ):
        with pytest.raises(Unavailable, match=r"exporter_seconds_per_hour=0\.12 .* Try again in [0-9]+ min"):
            ask()
    assert submitting.exporter.jobs == 3
    assert not submitting.own.quote(training_source(), "flu", OTHER).accepted
    assert submitting.own.quote(statistics_source(), "flu", RESEARCHER).accepted  # no model, no exporter
    assert submitting.exporter.jobs == 4
