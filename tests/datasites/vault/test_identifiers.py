"""Identifiers of one patient that may be written in two ways, counted; identifiers that are nobody's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasites.vault.identifiers import _joined, _lower, _merged, _plain, _without_zeros, identifier_concerns


def noticed(*identifiers: str, rows: tuple[int, ...] | None = None) -> list[tuple[str, int]]:
    """A word of each concern's sentence, and its count."""
    patients = np.arange(len(identifiers)) if rows is None else np.repeat(np.arange(len(identifiers)), rows)
    names = {"zeros": "zeros in front", "capitals": "capital letters", "unseen": "nobody sees", "between": "by spaces"}
    names |= {"several": "several of these", "rounded": "spreadsheet has rounded", "nobody": "placeholder"}
    concerns = identifier_concerns(pa.array(identifiers, pa.string()), patients)
    return [
        (next(name for name, words in names.items() if words in concern.what), concern.count) for concern in concerns
    ]


@pytest.mark.parametrize(
    ("identifiers", "concerns"),
    [
        (("1", "2", "10", "100", "20"), []),
        (("p1", "p2", "q1"), []),
        (("007", "010", "100"), []),  # all with zeros: of one width, as a register writes them
        (("7", "007", "8"), [("zeros", 1)]),
        (("7", "07", "007"), [("zeros", 2)]),
        (("07", "007", "8"), [("zeros", 1)]),
        (("P7", "P007", "A0B1", "AB1"), [("zeros", 1)]),
        (("P1", "p1", "p2"), [("capitals", 1)]),
        (("p1", "p\u200b1", "p2"), [("unseen", 1)]),
        (("71", "\uff17\uff11", "\u0667\u0661"), [("unseen", 1)]),  # full width; other digits are other digits
        (("p1", "p-1", "p 1", "p_1"), [("between", 3)]),
        (("P-007", "p7"), [("several", 1)]),
        (("1.23E+10", "2e9", "e9", "1E"), [("rounded", 2)]),
    ],
)
def test_identifiers_that_may_be_one_are_counted(identifiers: tuple[str, ...], concerns: list[tuple[str, int]]) -> None:
    assert noticed(*identifiers) == concerns


def test_a_placeholder_is_counted_by_its_records() -> None:
    assert noticed("NA", "7", "unknown", rows=(5, 3, 1)) == [("nobody", 6)]


def test_no_identifier_stands_in_a_concern() -> None:
    concerns = identifier_concerns(pa.array(["kitchen8675309", "KITCHEN8675309"]), np.arange(2))
    assert concerns
    assert "8675309" not in repr(concerns)


@given(st.lists(st.text("aA0７-\u200b 1", max_size=4), unique=True, max_size=12))
def test_counts_are_how_many_fewer_there_are_once_all_are_written_in_one_way(words: list[str]) -> None:
    distinct = pa.array(words, pa.string())
    for change in (_without_zeros, _lower, _plain, _joined):
        changed = change(distinct)
        assert change(changed).equals(changed) or change is _without_zeros
        assert _merged(distinct, changed) == len(words) - len(set(changed.to_pylist()))
