"""Every payload of the corpus: refused where it must be, and harmless behind that wall as well."""

from __future__ import annotations

import pytest

from policies.inspection import list_findings
from tests.attacks.exporting import Exporting
from tests.attacks.payloads import TITLES, cases, payloads

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


def test_there_are_enough_of_every_category() -> None:
    assert len(payloads()) >= 150
    for category in TITLES:
        assert len(payloads(category)) >= 6, category
    assert len({each.tries for each in payloads()}) == len(payloads())
    assert list_findings  # what is tested is the inspection that both sides use
