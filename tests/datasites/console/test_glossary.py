"""Help beside the terms: each leads to the glossary, by keyboard as well, and says what docs/glossary.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datasites.console import formats, page_requests
from datasites.console.glossary import TERMS, term
from datasites.people.roles import CONSOLE, Role
from tests.browser.desk import VERSION, Desk

TEMPLATES = Path(page_requests.HERE) / "templates"
DOCS = Path(__file__).parents[3] / "docs/glossary.md"
EXPLAINED = "epsilon delta noise_multiplier order divergence plan_digest population clipping_norm nearly".split()


def test_every_term_is_one_of_the_documents() -> None:
    rows = {line.split("|")[1].strip() for line in DOCS.read_text().splitlines() if line.startswith("|")}
    assert {known.row for known in TERMS} <= rows


def test_the_terms_that_pages_use_are_explained() -> None:
    assert {known.anchor for known in TERMS} >= set(EXPLAINED)
    assert len({known.anchor for known in TERMS}) == len(TERMS)


def test_every_help_in_a_template_names_a_term() -> None:
    used = {
        anchor
        for path in TEMPLATES.glob("*.html")
        for anchor in re.findall(r'parts\.help\("(\w+)"\)', path.read_text())
    }
    assert used
    assert all(term(anchor).text for anchor in used)


def test_the_certainties_in_the_text_are_those_of_the_formula() -> None:
    told = term("epsilon").text
    for epsilon in (0.1, 1.0, 2.0, 6.0):
        assert f"{formats.belief(epsilon)} sure after ε {formats.exact(epsilon)}" in told or (
            f"{formats.belief(epsilon)} after ε {formats.exact(epsilon)}" in told
        )


@pytest.mark.parametrize("role", sorted(CONSOLE))
def test_the_glossary_has_a_place_for_every_term(desk: Desk, role: Role) -> None:
    page = desk.browser(role).get("/glossary").text
    assert [known.anchor for known in TERMS if f'id="{known.anchor}"' not in page] == []


def test_terms_have_help_where_they_are_read(desk: Desk) -> None:
    request = desk.ask("f" * 32)
    owner = desk.browser(Role.OWNER)
    wanted = {
        f"/requests/{request}": ("epsilon", "delta", "plan_digest", "tighter", "nearly"),
        "/ledger": ("population", "delta", "order", "divergence", "head"),
        f"/datasets/{VERSION}": ("population", "patients", "mock", "schema"),
    }
    for path, terms in wanted.items():
        page = owner.get(path).text
        for anchor in terms:
            assert f'<a class="help" href="/glossary#{anchor}" aria-label="What is {term(anchor).name}?">' in page, path
