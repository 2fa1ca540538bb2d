"""Each defence is missed by a test when it is taken out; and a stock server is seen to lack them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.__main__ import measure_all
from tests.attacks.payloads import payloads
from tests.attacks.without import DEFENCES, failures_without, places_of, put

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DEFENCES)
def test_without_this_defence_a_test_fails(name: str) -> None:
    assert failures_without(name)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_corpus_reaches_nothing_of_ours_and_most_of_a_stock_server() -> None:
    scores = measure_all(payloads(), lambda _: None)
    for category, score in scores.items():
        assert not any(score.ours), category
        assert not any(score.behind), category
    stock = [each for score in scores.values() for each in score.stock]
    assert sum(stock) > len(stock) / 2


def test_a_place_that_is_not_there_any_more_is_named() -> None:
    """Else taking it out would do nothing."""
    with pytest.raises(AssertionError, match="no_such_name is not there any more"):
        put("policies.source.inspection:no_such_name", None)
    assert len(DEFENCES) >= 40


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_is_where_it_is_taken_out_and_so_are_its_tests(name: str) -> None:
    """Whoever renames one hears of it here, and not in the nightly run alone."""
    assert DEFENCES[name].what
    assert places_of(name)
    modules = [each for each in DEFENCES[name].tests if each.endswith(".py")]
    assert modules
    assert [each for each in modules if not (ROOT / each).is_file()] == []
