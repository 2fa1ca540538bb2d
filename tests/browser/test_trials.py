"""What a request did on the mock: shown before the decision, made of public facts alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from datasites.jobs.pool import KINDS, JobPool
from datasites.ledger.records import CodeRequestRecord
from datasites.people.accounts import Role
from datasites.review import mock_runs as module
from datasites.review.mock_runs import Trials, sentences
from datasites.settings import job_socket
from policies.errors import DatasiteError
from tests.browser.desk import VERSION, Desk
from tests.browser.test_decisions import open_request
from tests.e2e import stock
from tests.factories import DatasiteProcess, training_source


@pytest.fixture
def desk(tmp_path: Path, jobs: Path) -> Iterator[Desk]:
    """A console whose office reaches a real confined runner."""
    made = Desk(tmp_path / "datasite")
    pool = JobPool({kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False)
    made.office.pool = made.office.review.pool = made.office.trials.pool = pool
    yield made
    made.close()


def training(desk: Desk) -> CodeRequestRecord:
    """A request that trains, and waits."""
    source = training_source("flu_tried")
    plan = desk.office.review.plan(source, desk.office.review.published(version=VERSION))
    desk.office.ledger.requests.submit(
        CodeRequestRecord(
            id="7" * 32,
            function=plan.function,
            researcher="a@b.example",
            dataset="flu",
            version=VERSION,
            population=desk.schema.population,
            source=source,
            purpose="",
        )
    )
    return desk.office.ledger.requests.check("7" * 32, plan)


def test_a_training_is_tried_on_rows_of_the_schema_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    run = desk.office.pool.run

    def watched(kind: str, job: dict[str, Any], *rest: Any, **more: Any) -> Any:
        given.append((kind, job, rest, more.get("rows")))
        return run(kind, job, *rest, **more)

    record = training(desk)
    monkeypatch.setattr(desk.office.pool, "run", watched)
    monkeypatch.setattr(desk.office.runs, "load", lambda asset: pytest.fail("private rows were read"))
    found = desk.office.act("try_request", "owner", {"request": record.id})
    facts = found["facts"]
    assert facts["rows"] == 300  # of 400 patients as published, a quarter held out
    assert (facts["steps"], facts["steps_of_round"], facts["parameters"]) == (5, 5, 49)
    assert facts["moved"]
    assert facts["finite"]
    assert 0.3 < facts["loss_before"] < 1.2  # near ln 2: outcomes of the mock are coin tosses
    assert "Trained for all 5 steps of a round on 300 mock rows" in found["lines"][0]
    ((kind, job, rest, rows),) = given
    assert (kind, rest, rows) == ("runner", (), None)
    public = {"job", "plan", "mechanism", "schema", "training_patients", "patients"}
    assert set(job) == public
    assert desk.office.act("show", "owner", {"request": record.id})["trial"]["facts"] == facts
    assert Trials(desk.office.settings, desk.office.ledger, desk.office.pool).of(record.id) is not None  # kept


def test_statistics_are_tried_too(desk: Desk) -> None:
    found = desk.office.act("try_request", "owner", {"request": desk.ask("8" * 32)})
    assert "Answered 1 statistic over 400 mock rows" in found["lines"][0]


def test_the_page_says_honestly_what_was_not_run_and_what_failed(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "datasite")
    request, owner = desk.ask("9" * 32), desk.browser(Role.OWNER)
    assert "It was not run on the mock yet." in owner.get(f"/requests/{request}").text
    with pytest.raises(DatasiteError):
        desk.office.act("try_request", "owner", {"request": "nothing"})
    kept = desk.office.trials.directory
    kept.mkdir()
    (kept / f"{request}.json").write_text(json.dumps({"failed": "<script>no memory</script>"}))
    text = owner.get(f"/requests/{request}").text
    assert "It failed on the mock" in text
    assert "&lt;script&gt;no memory" in text
    assert "/try" not in desk.browser(Role.AUDITOR).get(f"/requests/{request}").text
    desk.close()


def test_a_job_that_says_odd_things_shows_none_of_them() -> None:
    said = {"rows": "<b>", "seconds": float("inf"), "memory": True, "finite": 1, "steps": None, "more": "x"}
    facts = {name: module._checked(said, name) for name in module.KINDS}
    assert set(facts.values()) == {None}
    assert sentences({"facts": facts}) == ["It failed on the mock. Approved, its rounds would most likely not run."]


def test_only_so_many_wait_to_be_tried(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 0)
    record = desk.office.ledger.requests.get(desk.ask("8" * 32))
    assert not desk.office.trials.start(record)
    assert desk.office.trials.of(record.id) is None


def test_a_request_that_arrives_was_tried_when_it_is_read(site: DatasiteProcess, researcher: Any, owner: Page) -> None:
    stock.submit(researcher, training_source("flu_tried", epsilon=0.5))
    open_request(owner, "flu_tried")
    section = owner.get_by_role("region", name="What it did on the mock")
    expect(section).to_contain_text("Trained for all 5 steps", timeout=20_000)  # without reloading
    section.get_by_role("button", name="Run it again").click()
    expect(section).to_contain_text("Trained for all 5 steps", timeout=20_000)
    request = next(each for each in site.json("requests") if each["function"] == "flu_tried")
    assert "numbers changed" in site.cli("show", request["id"]).stdout
    assert "Trained for all 5 steps" in site.cli("try", request["id"]).stdout
