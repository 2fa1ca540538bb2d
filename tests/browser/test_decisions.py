"""The owner's day in Chromium: a real datasite, and a stock PySyft researcher on the other side."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from policies.release.certificates import verify
from tests.browser.conftest import SignIn, downloaded
from tests.browser.desk import OWNER, REVIEWER
from tests.e2e import stock
from tests.factories import (
    PASSWORD,
    SCHEMA,
    DatasiteProcess,
    initial_weights,
    slow_training_source,
    statistics_source,
    training_source,
    write_table,
)


def ask(client: Any, name: str, *, epsilon: float = 0.1, purpose: str = "") -> Any:
    """Submit a request for a count and a mean; purposes travel as PySyft's `reason`."""
    code = stock.as_code(client, statistics_source(name, epsilon=epsilon), weights=False)
    return client.code.request_code_execution(code, reason=purpose)


def status(client: Any, site: DatasiteProcess, name: str) -> dict[str, Any]:
    """What the researcher reads of a request."""
    found = next(each for each in site.json("requests") if each["function"] == name)
    answer: dict[str, Any] = client.api.services.datasite.request_status(code=found["id"])
    return answer


def open_request(page: Page, name: str) -> None:
    page.goto("/requests")
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)


def kinds(ledger: dict[str, Any]) -> list[str]:
    """The kind of each entry, of a ledger's JSON."""
    return [entry["kind"] for entry in ledger["entries"]]


def notice(page: Page) -> Any:
    return page.locator("p.banner")


def test_a_request_arrives_is_read_approved_runs_and_is_proved(
    site: DatasiteProcess, researcher: Any, owner: Page
) -> None:
    settled = kinds(site.json("ledger")).count("settle")
    owner.goto("/requests")
    stock.submit(researcher, training_source("flu_2026", rounds=2, epsilon=2.0))
    owner.get_by_role("link", name="flu_2026").click(timeout=15_000)  # it came without reloading

    page = owner
    expect(page.get_by_text("a model of 49 numbers, on about 400 patients")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("This request")).get_by_text("89.8 %").first).to_be_visible()
    expect(page.locator(".checks .fail")).to_have_count(0)
    approve = page.get_by_role("button", name="Approve", exact=True)
    approve.click()  # the name is not typed: the browser keeps the form
    assert site.json("requests")[0]["status"] == "checked"
    page.get_by_label("Type flu_2026 to approve").fill("flu_2026")
    approve.click()
    expect(notice(page)).to_contain_text("Approved")

    done = stock.call_until_done(researcher, "flu_2026", weights=initial_weights(), round=1)
    assert done["status"] == "released"
    page.goto("/runs")
    expect(page.get_by_text("1 of 2 released")).to_be_visible()
    page.goto("/releases")
    text = downloaded(page, lambda: page.get_by_role("link", name=re.compile("Certificate of flu_2026")).click())
    assert verify(text)["round"] == 1
    assert text == done["certificate"]

    page.goto("/ledger")
    page.get_by_role("button", name="Verify").click()
    expect(notice(page)).to_contain_text("The ledger verifies")
    rows = json.loads(downloaded(page, lambda: page.get_by_role("link", name="JSON").click()))
    assert kinds(rows).count("settle") == settled + 1
    lines = downloaded(page, lambda: page.get_by_role("link", name="CSV").click()).splitlines()
    assert len(lines) == len(rows["entries"]) + 1


def test_a_denial_reaches_the_researcher_with_its_reason(site: DatasiteProcess, researcher: Any, owner: Page) -> None:
    ask(researcher, "denied_counts")
    open_request(owner, "denied_counts")
    owner.locator("summary", has_text="Deny").click()
    owner.get_by_label("This work is not covered by our research agreement.").check()
    owner.get_by_label("Anything to add").fill("Write to us first.")
    owner.get_by_role("button", name="Deny this request").click()
    expect(notice(owner)).to_contain_text("Denied")
    told = status(researcher, site, "denied_counts")
    assert told["status"] == "denied"
    assert told["comment"] == "This work is not covered by our research agreement. Write to us first."


def test_changes_are_asked_for_and_the_request_comes_again(site: DatasiteProcess, researcher: Any, owner: Page) -> None:
    ask(researcher, "asked_counts", epsilon=0.3)
    open_request(owner, "asked_counts")
    owner.locator("summary", has_text="Ask for changes").click()
    owner.get_by_label("What should change").fill("Please ask at ε 0.1.")
    owner.get_by_role("button", name="Send").click()
    assert status(researcher, site, "asked_counts")["comment"] == "Please ask at ε 0.1."
    ask(researcher, "asked_counts", epsilon=0.1)
    owner.goto("/requests?show=waiting")
    owner.get_by_role("link", name="asked_counts").click()
    owner.get_by_role("button", name="Approve", exact=True).click()  # small enough to need no typed name
    expect(notice(owner)).to_contain_text("Approved")


def test_two_people_must_agree_and_a_stock_approval_is_one_of_them(
    site: DatasiteProcess, researcher: Any, owner: Page, sign_in: SignIn
) -> None:
    owner.goto("/policy")
    owner.get_by_label("Two people above ε").fill("0.05")
    owner.get_by_role("button", name="Save policy").click()
    expect(notice(owner)).to_contain_text("second_reviewer_epsilon")
    request = ask(researcher, "shared_draws")
    as_owner = stock.login(site.url, OWNER, PASSWORD)
    answer = next(each for each in as_owner.requests if each.id == request.id).approve()
    assert "sealed" in str(answer.message)
    assert status(researcher, site, "shared_draws")["status"] == "checked"

    reviewer = sign_in(REVIEWER)
    open_request(reviewer, "shared_draws")
    expect(reviewer.get_by_text("Two people must agree")).to_be_visible()
    expect(reviewer.get_by_text(OWNER)).to_have_count(0)
    reviewer.get_by_role("button", name="Vote to approve").click()
    expect(reviewer.get_by_text(f"Data owner {OWNER} agreed")).to_be_visible()
    assert status(researcher, site, "shared_draws")["status"] == "approved"
    owner.goto("/policy")
    owner.get_by_label("Two people above ε").fill("")
    owner.get_by_role("button", name="Save policy").click()
    expect(notice(owner)).to_contain_text("that holds until a second reviewer agrees")
    expect(owner.get_by_role("button", name="Agree to the change")).to_have_count(0)
    reviewer.goto("/policy")
    reviewer.get_by_role("button", name="Agree to the change").click()
    expect(notice(reviewer)).to_contain_text("Agreed")


def test_what_does_not_fit_the_budget_cannot_be_approved(site: DatasiteProcess, researcher: Any, owner: Page) -> None:
    owner.goto("/people")
    row = owner.get_by_role("row", name=re.compile("researcher@university.example"))
    row.get_by_text("Change").click()
    row.get_by_label("Largest ε").fill("0.01")
    row.get_by_role("button", name="Set limit").click()
    ask(researcher, "large_counts", epsilon=1.0)
    open_request(owner, "large_counts")
    expect(owner.get_by_text("This cannot be approved")).to_be_visible()
    expect(owner.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
    row = owner.get_by_role("row", name=re.compile("researcher@university.example"))
    owner.goto("/people")
    row.get_by_text("Change").click()
    row.get_by_label("Largest ε").fill("")
    row.get_by_role("button", name="Set limit").click()
    expect(notice(owner)).to_contain_text("no limit")


@pytest.mark.timeout(600)
def test_one_run_is_stopped_and_the_owner_reads_why_it_failed(
    site: DatasiteProcess, researcher: Any, owner: Page
) -> None:
    source = slow_training_source("flu_long", rounds=2)
    stock.submit(researcher, source)
    site.approve_all()
    stock.call(researcher, "flu_long", weights=initial_weights(), round=1)
    owner.goto("/runs")
    deadline = time.monotonic() + 30
    while site.json("runs")["runs"][0]["status"] != "running" and time.monotonic() < deadline:
        time.sleep(0.2)
    owner.get_by_role("button", name="Stop round 1 of flu_long").click()
    expect(notice(owner)).to_contain_text("The round is ended")
    row = owner.get_by_role("row", name=re.compile("flu_long.*Failed"))
    expect(row).to_be_visible(timeout=200_000)  # without reloading; at its public time, which is longer under load
    row.get_by_text("Why").click()
    expect(row.get_by_text(re.compile("stopped by the owner|The owner stopped this"))).to_be_visible()
    told = status(researcher, site, "flu_long")
    assert [each["status"] for each in told["rounds"]] == ["failed"]
    assert "stopped" not in json.dumps(told)  # the researcher reads the status, and no reason

    owner.locator("summary", has_text="Stop everything").click()
    owner.get_by_role("button", name="Stop all work now").click()
    expect(owner.get_by_text("All work is stopped.")).to_be_visible()
    owner.get_by_role("button", name="Let work go on").click()
    open_request(owner, "flu_long")
    owner.locator("summary", has_text="Revoke").click()
    owner.get_by_label("Why; the researcher reads it").fill("No longer needed.")
    owner.get_by_role("button", name="Revoke this approval").click()
    assert status(researcher, site, "flu_long")["status"] == "revoked"


def test_a_new_version_is_uploaded_after_its_faults_are_mended(
    site: DatasiteProcess, owner: Page, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "new.csv", patients=120, seed=3)
    bad = tmp_path / "bad.csv"
    lines = table.read_text().splitlines()
    lines[4] = lines[4].rsplit(",", 5)[0] + ",200,37.0,1,0,1"
    bad.write_text("\n".join(lines) + "\n")
    owner.goto("/datasets")
    owner.get_by_role("link", name="New version").click()
    assert '[columns."age"]' in owner.get_by_label("schema.toml").input_value()
    owner.get_by_label("CSV, Parquet, Excel, SAS or FHIR").set_input_files(bad)
    owner.get_by_label("A figure that you declare").check()
    owner.get_by_label("Number of patients").fill("120")
    owner.get_by_role("button", name="Check and publish").click()
    fault = owner.get_by_role("row", name=re.compile("5 age"))
    expect(fault).to_contain_text("200")
    assert len(site.json("datasets")["datasets"]) == 1
    assert not list(site.directory.glob("upload-*"))
    owner.get_by_label("schema.toml").fill(SCHEMA.replace("Made-up visits", "Made-up visits, again"))
    owner.get_by_label("CSV, Parquet, Excel, SAS or FHIR").set_input_files(table)
    mock = write_table(tmp_path / "mock.csv", patients=20, seed=9)
    owner.locator("summary", has_text="A mock of your own").click()
    owner.get_by_label("A file that you declare public").set_input_files(mock)
    owner.get_by_role("button", name="Check and publish").click()
    expect(owner.locator("p.lead")).to_have_text("Made-up visits, again")
    assert sorted(each["status"] for each in site.json("datasets")["datasets"]) == ["published", "retired"]
    expect(owner.get_by_text("From a file that the owner declared public.")).to_be_visible()
    shown = owner.get_by_role("region", name="Mock sample").locator("tbody tr").first.locator("td").all_inner_texts()
    assert [float(shown[0]), float(shown[1])] == [
        float(each) for each in mock.read_text().splitlines()[1].split(",")[1:3]
    ]
    owner.goto("/datasets")
    owner.get_by_role("row", name=re.compile("flu")).get_by_role("link").click()
    expect(owner.get_by_text("it goes with a dataset that is retired")).to_be_visible()


def test_a_researcher_is_added_with_a_password_shown_once(site: DatasiteProcess, owner: Page, sign_in: SignIn) -> None:
    owner.goto("/people")
    owner.locator("summary", has_text="Add a researcher").click()
    form = owner.locator('form[action="/people/researchers"]')
    form.get_by_label("Full name").fill("New Person")
    form.get_by_label("E-mail").fill("new@university.example")
    form.get_by_role("button", name="Add with a password").click()
    password = owner.locator(".secret code").inner_text()
    owner.goto("/people")
    expect(owner.get_by_text(password)).to_have_count(0)
    client = stock.login(site.url, "new@university.example", password)
    assert client.api.services.datasite.requests() == []
    stranger = sign_in("new@university.example", password)
    expect(stranger.get_by_role("alert")).to_contain_text("researchers work from Python")
    log = site.cli("export", "log").stdout
    assert password not in log
    assert "add researcher,new@university.example" in log


def test_what_people_did_is_found_in_the_log(owner: Page) -> None:
    owner.goto("/log")
    owner.get_by_role("searchbox").fill("change policy")
    owner.get_by_role("button", name="Search").click()
    expect(owner.locator("tbody tr").first).to_contain_text("second reviewer epsilon")
    owner.get_by_role("button", name="Verify").click()
    expect(notice(owner)).to_contain_text("The log verifies")
    owner.goto("/ledger")
    owner.get_by_role("button", name="Ask").click()
    expect(owner.locator(".answer")).to_contain_text("like")
