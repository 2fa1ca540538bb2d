"""How the console writes numbers and times: each filter, every template, and what the pages then say."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from datasites.console import formats, page_requests
from datasites.people.roles import Role
from tests.browser.desk import VERSION, Desk

TEMPLATES = sorted((Path(page_requests.HERE) / "templates").glob("*.html"))
# Ways in which a template would write a number, a time or a plural by itself.
OWN_WAYS = {
    "%-formatting": re.compile(r"\"[^\"]*%[.\d]*[dfge]|\|\s*format\("),
    "a plural": re.compile(r"\"\w+\" if \w[\w.]* == 1 else"),
    "a time as it is kept": re.compile(r"isoformat|datetime=\"{{ (?!\w[\w.]* \| machine_time|day )"),
    "a rounding": re.compile(r"\|\s*round"),
}
PLURALS_OF_VERBS = ("waits", "request", "fits")  # that stand apart from their number, which `counted` cannot say


# -- the filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (0, "0"),
        (7997, "7,997"),
        (0.0, "0"),
        (1.2301, "1.24"),
        (1.23, "1.23"),
        (0.00001, "0.00001"),
        (0.0000123, "0.000013"),
        (12345.671, "12,345.68"),
    ],
)
def test_a_figure_is_rounded_up_and_has_no_exponent(value: float | None, text: str) -> None:
    assert formats.figure(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.239, "1.23"), (0.0, "0.00"), (7997.5, "7,997.50")])
def test_what_is_left_is_rounded_down(value: float, text: str) -> None:
    assert formats.remaining(value) == text


@pytest.mark.parametrize(
    ("value", "shown", "typed"),
    [
        (1e-05, "0.00001", "0.00001"),
        (6.0, "6", "6"),
        (100_000, "100,000", "100000"),
        (1_000_000.0, "1,000,000", "1000000"),
        (0.1, "0.1", "0.1"),
        (None, "—", ""),
    ],
)
def test_what_somebody_set_is_shown_and_typed_as_it_was_set(value: float | None, shown: str, typed: str) -> None:
    assert (formats.exact(value), formats.in_a_field(value)) == (shown, typed)


@pytest.mark.parametrize(
    ("share", "text"), [(None, "—"), (0.0, "0 %"), (0.004, "< 1 %"), (0.011, "2 %"), (1.0, "100 %")]
)
def test_a_share_is_whole_percent_rounded_up(share: float | None, text: str) -> None:
    assert formats.percent(share) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 byte"), (999, "999 bytes"), (1200, "1.2 kB"), (3_400_000, "3.4 MB"), (2 * 10**9, "2.0 GB")],
)
def test_a_size_has_its_unit(size: int, text: str) -> None:
    assert formats.bytes_text(size) == text


@pytest.mark.parametrize(("epsilon", "text"), [(0.0, "50 %"), (0.1, "52.5 %"), (2.0, "88.1 %"), (20.0, "nearly 100 %")])
def test_a_belief_is_rounded_up_to_a_tenth(epsilon: float, text: str) -> None:
    assert formats.belief(epsilon) == text


def test_a_moment_is_utc_and_says_so() -> None:
    for moment in ("2026-11-23T08:49:12+01:00", "2026-11-23T07:49:12+00:00", 1795420152.0):
        assert formats.when(moment) == "23 Nov 2026, 07:49 UTC"
        assert formats.clock(moment) == "23 Nov 2026, 07:49"
        assert formats.machine_time(moment) == "2026-11-23T07:49:12Z"
    assert (formats.when(None), formats.clock(""), formats.machine_time(None)) == ("—", "—", "")
    assert formats.day_text(date(2026, 11, 3)) == "3 Nov 2026"


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "just now"), (61, "1 minute ago"), (7_300, "2 hours ago"), (90_000, "1 day ago")]
)
def test_how_long_ago_has_the_right_noun(seconds: int, text: str) -> None:
    assert formats.ago((datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()) == text


def test_a_detail_of_the_log_reads_as_words() -> None:
    assert formats.plain({"max_epsilon": {"from": 1.0, "to": 1e-05}}) == "max epsilon 1 → 0.00001"
    assert formats.plain([1, True, None, "a\u202eb"]) == "1, yes, none, a<U+202E>b"


def test_names_break_where_they_may_and_hide_nothing() -> None:
    assert formats.mail("a@b.example") == "a<wbr>@b.example"
    assert formats.name("flu_2026\u200b<b>") == "flu_<wbr>2026&lt;U+200B&gt;&lt;b&gt;"


# -- the templates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
@pytest.mark.parametrize("way", OWN_WAYS)
def test_no_template_writes_a_number_or_a_time_in_a_way_of_its_own(template: Path, way: str) -> None:
    text = template.read_text()
    own = [part[0] for part in OWN_WAYS[way].finditer(text)]
    assert [part for part in own if not any(f'"{verb}' in part for verb in PLURALS_OF_VERBS)] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_column_of_moments_says_utc(template: Path) -> None:
    """A moment without its zone stands only where the head of its column, and its label on a phone, name the zone."""
    text = template.read_text()
    for cell in re.findall(r"<td[^>]*>(?:(?!</td>).)*parts\.clock\((?:(?!</td>).)*</td>", text):
        label = re.search(r'data-label="([^"]+)"', cell)
        assert label is not None, cell
        assert label[1].endswith("(UTC)"), cell
    assert len(re.findall(r"\(UTC\)</th>", text)) >= min(1, text.count("parts.clock("))


# -- the pages ---------------------------------------------------------------------------------------------------------


def test_no_page_shows_an_exponent_or_a_wrong_plural(desk: Desk) -> None:
    request = desk.ask("f" * 32)
    owner = desk.browser(Role.OWNER)
    pages = ("/requests", f"/requests/{request}", "/runs", "/releases", "/ledger", "/datasets", f"/datasets/{VERSION}",
             "/datasets/publish", "/people", "/policy", "/log", "/account", "/glossary")  # fmt: skip
    for page in pages:
        answer = owner.get(page)
        assert answer.status_code == 200, page
        text = re.sub(r"<(code|pre|textarea|script)\b.*?</\1>|class=\"code\".*?</table>", "", answer.text, flags=re.S)
        words = re.sub(r"<[^>]+>", " ", text)
        assert re.findall(r"\d(?:\.\d+)?e[-+]?\d+", words) == [], page
        assert re.findall(r"\b1 (?:rounds|requests|releases|tensors|findings|minutes|hours|days|values)\b", words) == []
        assert re.findall(r"(?<![\d,.])\d{5,}(?![\d,])", words) == [], page  # a number without groups
