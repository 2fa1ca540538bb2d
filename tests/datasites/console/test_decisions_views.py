"""A request's page names who asks as their account does, and shows what they write as text."""

from __future__ import annotations

from datasites.people.roles import CONSOLE, Role
from tests.browser.desk import Desk
from tests.factories import PASSWORD

ADA = "ada@university.example"


def test_the_page_names_the_researcher_and_the_institution(desk: Desk) -> None:
    desk.syft.add_researcher(ADA, "Ada Lovelace", PASSWORD, "University of Somewhere")
    request = desk.ask("f" * 32, researcher=ADA)
    for role in CONSOLE:
        page = desk.browser(role).get(f"/requests/{request}").text
        assert "asked by Ada Lovelace, University of Somewhere (ada<wbr>@university.example)" in page
        assert "<dt>Institution</dt><dd>University of Somewhere</dd>" in page


def test_hidden_characters_of_names_and_purposes_are_shown_by_name(desk: Desk) -> None:
    desk.syft.add_researcher(ADA, "Ada\u202e<b>", PASSWORD, "Uni\u200bversity")
    request = desk.ask("f" * 32, researcher=ADA, purpose="To count.\u2066\n<script>")
    page = desk.browser(Role.OWNER).get(f"/requests/{request}").text
    assert "Ada&lt;U+202E&gt;&lt;b&gt;" in page
    assert "Uni&lt;U+200B&gt;versity" in page
    assert "To count.&lt;U+2066&gt;\n&lt;script&gt;" in page
    assert not {"\u202e", "\u200b", "\u2066"} & set(page)


def test_an_account_that_is_gone_leaves_the_address(desk: Desk) -> None:
    request = desk.ask("f" * 32, researcher="gone@university.example")
    page = desk.browser(Role.OWNER).get(f"/requests/{request}").text
    assert "asked by gone<wbr>@university.example" in page
    assert "<dt>Institution</dt><dd>not given</dd>" in page
