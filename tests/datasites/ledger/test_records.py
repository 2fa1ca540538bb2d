"""Records of the ledger: what a stored text says, parsed once and only where somebody reads it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from datasites.ledger import records
from datasites.ledger.amounts import Amount, amount_of
from datasites.ledger.records import CodeRequestRecord, DatasetRecord
from policies.errors import DataRefused, WrongStatus
from policies.source.findings import Finding
from policies.source.statuses import REQUEST_TRANSITIONS, RequestStatus
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    PLAN,
    approved,
    checked,
    dataset,
    each_pair,
    in_status,
    new_ledger,
    submitted,
)
from tests.policies.plan_factories import SCHEMA

FINDING = Finding("import", 1, 8, "os", "It reaches the host.", "Leave it out.")


def test_a_request_gives_its_plan_findings_identifiers_and_charge_as_values(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        waiting = ledger.requests.get(checked(ledger))
        assert (waiting.plan, waiting.plan_digest, waiting.charge) == (PLAN, PLAN.digest, None)
        assert (waiting.findings, waiting.syft) == ((), {})
        assert ledger.requests.get(approved(ledger)).charge == amount_of(GAUSSIAN)
        assert ledger.requests.get(submitted(ledger)).plan is None


def test_findings_and_identifiers_are_kept_as_they_were_given(tmp_path: Path) -> None:
    record = CodeRequestRecord("r1", "f", "rita@uni.example", "flu", "v1", "city", "def f(): ...")
    with new_ledger(tmp_path / "ledger.db") as ledger:
        ledger.requests.submit(record.with_findings((FINDING,)).with_syft({"code": "c", "request": "q"}))
        kept = ledger.requests.get("r1")
    assert (kept.findings, kept.syft) == ((FINDING,), {"code": "c", "request": "q"})


def test_a_charge_that_is_stored_is_read_as_an_amount() -> None:
    text = '{"delta_atto":0,"divergence_nano":7,"mixed":1,"pure_nano":0}'
    record = CodeRequestRecord("r1", "f", "r", "flu", "v1", "city", "", charge_json=text)
    assert record.charge == Amount(7, 0, 1, 0)


def test_listing_requests_parses_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(records, "plan_from", lambda data: parsed.append("plan") or PLAN)
    records.parsed_plan.cache_clear()
    with new_ledger(tmp_path / "ledger.db") as ledger:
        for _ in range(20):
            checked(ledger)
        listed = ledger.requests.list()
        assert len(listed) == 20
        assert parsed == []
        assert listed[0].plan is listed[0].plan is listed[1].plan  # the same text: parsed once for all
    assert parsed == ["plan"]


def test_a_dataset_gives_its_schema_and_assets_as_values() -> None:
    record = DatasetRecord.of(SCHEMA, version="v1", patients=1000, size_kind="declared")
    assert (record.name, record.population, record.schema) == (SCHEMA.name, SCHEMA.population, SCHEMA)
    assert record.assets == {}
    assert record.with_assets({"records": "a"}).assets == {"records": "a"}


def test_a_stored_schema_that_is_none_is_refused_where_it_is_read() -> None:
    with pytest.raises(DataRefused):
        _ = dataset(schema_json="{}").schema


def test_a_record_that_is_changed_reads_its_new_text() -> None:
    first = dataset().with_assets({"records": "a"})
    assert first.assets == {"records": "a"}
    assert dataclasses.replace(first, assets_json="{}").assets == {}


@pytest.mark.parametrize(("old", "new"), each_pair())
def test_the_ledger_moves_requests_only_as_the_table_says(
    tmp_path: Path, old: RequestStatus, new: RequestStatus
) -> None:
    with new_ledger(tmp_path / "ledger.db") as ledger:
        request = in_status(ledger, old)
        # Approval and completion come by methods of their own, and `checked` needs a plan.
        apart = {RequestStatus.APPROVED, RequestStatus.COMPLETED, RequestStatus.CHECKED}
        if new in REQUEST_TRANSITIONS[old] and new not in apart:
            assert ledger.transition(request, new, actor="someone").status is new
        else:
            with pytest.raises(WrongStatus):
                ledger.transition(request, new, actor="someone")
            assert ledger.requests.get(request).status is old
        ledger.verify()
