"""Canonical JSON: equal data, equal text, whatever order it was made in."""

from __future__ import annotations

import pytest

from policies.canonical import canonical, canonical_ascii


def test_order_and_spaces_do_not_count() -> None:
    assert canonical({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()
    assert canonical_ascii({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(number: float) -> None:
    for write in (canonical, canonical_ascii):
        with pytest.raises(ValueError, match="JSON"):
            write([number])
