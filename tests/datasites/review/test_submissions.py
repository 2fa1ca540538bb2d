"""What researchers submit: nothing is kept before it is inspected, and nothing is asked twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.ledger.records import DatasetRecord
from policies.errors import InvalidRequest, WrongStatus
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk
from tests.factories import RESEARCHER, statistics_source

ASSET = "asset-of-flu"
STORED = {"code": "c0de" * 8, "request": "r"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    (record,) = desk.datasite.ledger.datasets.list()
    version = dataclasses.replace(record, version="b2c3d4e5").with_assets({"records": ASSET})
    assert isinstance(version, DatasetRecord)
    desk.datasite.ledger.datasets.publish(version, actor="owner")
    yield desk
    desk.close()


def stored() -> dict[str, str]:
    return STORED


def not_stored() -> dict[str, str]:
    raise AssertionError("PySyft would have kept it")


def test_a_request_that_passes_waits_with_its_plan(desk: Desk) -> None:
    record = desk.datasite.submissions.submit(RESEARCHER, statistics_source(), ASSET, "To count.", stored)
    assert (record.id, record.status, record.purpose) == (STORED["code"], RequestStatus.CHECKED, "To count.")
    assert record.plan is not None
    assert record.plan.version == "b2c3d4e5"
    assert record.syft["request"] == "r"


def test_a_refused_source_is_kept_as_denied_and_reaches_no_inbox_and_no_pysyft(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="Refused before anything was asked"):
        desk.datasite.submissions.submit(RESEARCHER, "import os\n", ASSET, "", not_stored)
    (record,) = desk.datasite.ledger.requests.list()
    assert record.status is RequestStatus.DENIED
    assert record.findings
    assert desk.datasite.ledger.requests.count(RequestStatus.CHECKED) == 0


@pytest.mark.parametrize("asset", ["", "another", ASSET.upper()])
def test_an_asset_that_is_not_published_is_refused(desk: Desk, asset: str) -> None:
    with pytest.raises(InvalidRequest, match="bound to no dataset"):
        desk.datasite.submissions.submit(RESEARCHER, statistics_source(), asset, "", not_stored)


def test_the_same_source_is_asked_once_by_each(desk: Desk) -> None:
    submissions = desk.datasite.submissions
    first = submissions.submit(RESEARCHER, statistics_source(), ASSET, "", stored)
    with pytest.raises(WrongStatus, match=f"asked this before: request {first.id[:8]}, checked"):
        submissions.submit(RESEARCHER, statistics_source(), ASSET, "", not_stored)
    submissions.submit(RESEARCHER, statistics_source() + "# again\n", ASSET, "", lambda: {"code": "2" * 32})
    submissions.submit("other@university.example", statistics_source(), ASSET, "", lambda: {"code": "3" * 32})


def test_a_quote_leaves_no_trace(desk: Desk) -> None:
    submissions = desk.datasite.submissions
    fine = submissions.quote(statistics_source(), "flu", RESEARCHER)
    assert fine.accepted
    assert fine.cost is not None
    assert fine.cost.epsilon == pytest.approx(0.2)
    refused = submissions.quote("import os\n", "flu", RESEARCHER)
    assert (refused.accepted, refused.plan, refused.cost) == (False, None, None)
    assert refused.findings
    dear = submissions.quote(statistics_source(epsilon=5.0), "flu", RESEARCHER)
    assert not dear.accepted  # above the policy's largest ε, which a finding says
    assert any(finding.code == "rule" for finding in dear.findings)
    assert desk.datasite.ledger.requests.list() == ()


def test_a_quote_says_what_fits_this_year_and_out_of_what_is_reserved_for_its_researcher(desk: Desk) -> None:
    """Else the researcher's library, which asks only where it fits, would never ask for what is reserved."""
    submissions, parts = desk.datasite.submissions, desk.datasite.ledger.parts
    desk.act("make_project", {"name": "Flu", "parties": "General", "ends": "2099-06-30"})
    parts.keep("Flu", desk.schema.population, 5.0, (RESEARCHER,), with_training=False, actor="owner")

    def quoted(researcher: str) -> tuple[bool, float]:
        cost = submissions.quote(statistics_source(epsilon=3.0), "flu", researcher).cost
        assert cost is not None
        return cost.fit.fits, cost.fit.spent_after

    assert quoted(RESEARCHER) == (True, 3.0)
    assert quoted("other@university.example") == (False, 3.0)
    policy = desk.datasite.settings.policy_path
    policy.write_text(f"{policy.read_text()}\nyearly_plans = {{ patients = {{ epsilon = 2.5 }} }}\n")
    assert quoted(RESEARCHER) == (False, 3.0)


def test_a_crash_before_a_plan_is_made_up_for_at_the_next_start(desk: Desk) -> None:
    ledger, submissions = desk.datasite.ledger, desk.datasite.submissions
    good = submissions.submit(RESEARCHER, statistics_source(), ASSET, "", stored)
    for id, source in (("a" * 32, statistics_source("again")), ("b" * 32, "import os\n")):
        ledger.requests.submit(dataclasses.replace(good, id=id, source=source, plan_json=None, plan_digest=None))
    submissions.check_submitted()
    assert ledger.requests.get("a" * 32).status is RequestStatus.CHECKED
    assert ledger.requests.get("b" * 32).status is RequestStatus.DENIED


@pytest.mark.parametrize("prefix", ["", "abc", "ffff", "%" * 8])
def test_a_request_is_named_by_enough_of_its_id(desk: Desk, prefix: str) -> None:
    for id in ("abcd1111", "abcd2222"):
        desk.ask(id)
    submissions = desk.datasite.submissions
    assert submissions.find("abcd1").id == "abcd1111"
    with pytest.raises(InvalidRequest, match="names no request"):
        submissions.find(prefix)
    with pytest.raises(InvalidRequest, match="names 2 requests"):
        submissions.find("abcd")
