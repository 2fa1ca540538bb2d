"""The publishing page and the command line refuse the same, in the same words: neither judges what it is given."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from datasites.cli import main
from datasites.people.roles import Role
from policies.errors import DatasiteError
from tests.browser.desk import Desk
from tests.factories import SCHEMA, write_table

GOOD: dict[str, Any] = {
    "table": "good.csv",
    "schema": SCHEMA.replace('"flu"', '"visits"'),
    "patients": None,
    "count_epsilon": "0.1",
    "epsilon": "6",
    "delta": "0.00001",
    "mock": None,
    "mock_epsilon": None,
}
# What is wrong with each: a change to what is good, and a part of what both must say.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no table": ({"table": None}, "Choose one table"),
    "a table of another kind": ({"table": "table.docx"}, "cannot be read by its ending"),
    "an empty table": ({"table": "empty.csv"}, "header"),
    "a row out of bounds": ({"table": "bad.csv"}, "1 fault"),
    "a column missing": ({"table": "narrow.csv"}, "temperature"),
    "no schema": ({"schema": "nonsense"}, "not TOML"),
    "a schema without bounds": ({"schema": SCHEMA.replace("maximum = 100\n", "")}, "maximum"),
    "another population": ({"schema": SCHEMA.replace('"patients"', '"others"')}, "whose budget it stays on"),
    "no size": ({"count_epsilon": None}, "Say how the number of patients is published"),
    "nobody": ({"patients": "0", "count_epsilon": None}, "patients=0 is not a whole number from 1"),
    "fewer than nobody": ({"patients": "-3", "count_epsilon": None}, "patients=-3 is not a whole number"),
    "half a patient": ({"patients": "12.5", "count_epsilon": None}, "patients=12.5 is not a whole number"),
    "everybody": ({"patients": "2000000000", "count_epsilon": None}, "from 1 to 1,000,000,000"),
    "an ε of nothing": ({"count_epsilon": "0"}, "epsilon=0.0 is outside (0, 100]"),
    "an ε below nothing": ({"count_epsilon": "-1"}, "epsilon=-1.0 is outside (0, 100]"),
    "an ε of everything": ({"count_epsilon": "1000"}, "epsilon=1000.0 is outside (0, 100]"),
    "a budget of nothing": ({"epsilon": "0"}, "epsilon=0.0 is outside (0, 100]"),
    "a budget without bound": ({"epsilon": "1000"}, "epsilon=1000.0 is outside (0, 100]"),
    "a δ of nothing": ({"delta": "0"}, "delta=0.0 is outside (0, 0.01]"),
    "a δ of a half": ({"delta": "0.5"}, "delta=0.5 is outside (0, 0.01]"),
    "a mock of another width": ({"mock": "narrow.csv"}, ""),
    "a mock's ε of nothing": ({"mock_epsilon": "0"}, "epsilon=0.0 is outside (0, 100]"),
    "two mocks": ({"mock": "good.csv", "mock_epsilon": "0.5"}, "Choose one mock"),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Tables, good and bad, under the names that an upload is kept by."""
    good = write_table(tmp_path / "good.csv", patients=60).read_text()
    (tmp_path / "table.docx").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.csv").write_text(good + "p1,999,37.0,1,1,1\n")
    (tmp_path / "narrow.csv").write_text("\n".join(line.rsplit(",", 4)[0] for line in good.splitlines()))
    return tmp_path


def on_the_page(desk: Desk, files: Path, given: dict[str, Any]) -> str:
    """What the page says to a form."""
    owner = desk.browser(Role.OWNER)
    size = "declared" if given["count_epsilon"] is None else "count"
    fields = {
        "csrf": owner.csrf,
        "size": size,
        **{name: given[name] or "" for name in given if name not in ("table", "mock")},
    }
    sent = {name: (given[name], (files / given[name]).read_bytes()) for name in ("table", "mock") if given[name]}
    answer = owner.client.post("/datasets/publish", data=fields, files=sent or {"unused": ("", b"")})
    assert answer.status_code == 422, answer.text
    assert "<h2>Nothing was published</h2>" in answer.text
    said = re.search(r"Nothing was published</h2><p>(.*?)</p>", answer.text, re.S)
    assert said is not None
    return html.unescape(said[1])


def on_the_command_line(desk: Desk, files: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `datasite publish` says to the same."""

    def run(directory: Path, action: str, **arguments: Any) -> Any:
        return desk.act(action, arguments)

    monkeypatch.setattr(main, "act", run)
    (files / "schema.toml").write_text(given["schema"])
    options = {
        "--schema": str(files / "schema.toml"),
        "--patients": given["patients"], "--count-epsilon": given["count_epsilon"],
        "--budget-epsilon": given["epsilon"], "--budget-delta": given["delta"],
        "--public-mock": given["mock"] and str(files / given["mock"]), "--mock-epsilon": given["mock_epsilon"],
        "--dir": str(desk.datasite.settings.directory),
    }  # fmt: skip
    arguments = [f"{name}={value}" for name, value in options.items() if value is not None]
    table = [str(files / given["table"])] if given["table"] else []
    result = CliRunner().invoke(main.app, ["publish", *table, *arguments])
    assert isinstance(result.exception, DatasiteError), result.output
    return str(result.exception).split("\n", 1)[0]


@pytest.mark.parametrize("wrong", BAD)
def test_the_page_refuses_what_the_command_line_refuses_in_the_same_words(
    desk: Desk, files: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    change, says = BAD[wrong]
    given = {**GOOD, **change}
    before = desk.datasite.ledger.entries.head()
    page = on_the_page(desk, files, given)
    line = on_the_command_line(desk, files, given, monkeypatch)
    for kept, name in (("table", given["table"]), ("mock", given["mock"])):
        if name:  # an upload is kept under a name of ours
            page = page.replace(f"{kept}{Path(name).suffix}", name)
    assert page == line
    assert says in page
    assert desk.datasite.ledger.entries.head() == before  # and neither left a trace


@pytest.mark.parametrize("text", ["7,997", "1,000", "12,345,678"])
def test_a_number_that_can_be_read_in_two_ways_is_refused(desk: Desk, files: Path, text: str) -> None:
    given = {**GOOD, "patients": text, "count_epsilon": None}
    assert "can be read in two ways" in on_the_page(desk, files, given)


def test_a_fault_stands_in_the_table_with_its_row_and_column(desk: Desk, files: Path) -> None:
    owner = desk.browser(Role.OWNER)
    fields = {"csrf": owner.csrf, "size": "count", "count_epsilon": "0.1", "schema": GOOD["schema"]}
    sent = {"table": ("bad.csv", (files / "bad.csv").read_bytes())}
    page = owner.client.post("/datasets/publish", data=fields, files=sent).text
    assert '<td data-label="Column">age</td>' in page
    assert "999" in page


def test_a_check_only_shows_what_is_noticed_and_publishes_nothing(
    desk: Desk, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = desk.browser(Role.OWNER)
    good = (files / "good.csv").read_text()
    (files / "good.csv").write_text(good + good.splitlines()[1].upper() + "\n")
    before = desk.datasite.ledger.entries.head()
    fields = {"csrf": owner.csrf, "step": "check", "size": "count", "count_epsilon": "", "schema": GOOD["schema"]}
    page = owner.client.post(
        "/datasets/publish", data=fields, files={"table": ("good.csv", (files / "good.csv").read_bytes())}
    )
    assert page.status_code == 200
    assert "Nothing was published; the table fits" in page.text
    assert "only by capital letters, as P1 and p1" in page.text
    assert desk.datasite.ledger.entries.head() == before

    monkeypatch.setattr(main, "act", lambda directory, action, **arguments: desk.act(action, arguments))
    (files / "schema.toml").write_text(GOOD["schema"])
    line = ["publish", str(files / "good.csv"), "--schema", str(files / "schema.toml"), "--check", "--dir", str(files)]
    said = CliRunner().invoke(main.app, line, env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert "1 identifier(s) differ from another one only by capital letters, as P1 and p1." in said
    assert "Nothing was published. The table fits visits" in said
    assert desk.datasite.ledger.entries.head() == before
