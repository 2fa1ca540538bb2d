"""One account beside all others: quotes that hang take its own places, and neither threads nor anybody else's."""

from __future__ import annotations

import threading

import pytest

from datasites.door.syft.call_limits import MOST_EXPORTS, NoTurn, Turns
from tests.attacks.guard.attacker import OTHER, RESEARCHER, Refusal, Site
from tests.factories import training_source

LOOP = "            for _ in range(3_000_000):\n                y = 1\n"
SLOW = training_source("slow").replace("            return torch.sigmoid", LOOP + "            return torch.sigmoid")


def quote(site: Site, who: str, note: str) -> str:
    """What a quote of a model that takes its time comes to."""
    try:
        site.call(who, "datasite.quote", source=SLOW.replace("000):", f"{note}):"), dataset="flu")
    except Refusal as refusal:
        return refusal.text
    return "answered"


def test_an_account_has_so_many_exports_at_once_and_no_more(ours: Site) -> None:
    """Forty that hang would take every thread, and with them the owner's console and the health page, for a minute."""
    for who in (RESEARCHER, OTHER):
        ours.key(who)
    seen: list[str] = []
    asking = [
        threading.Thread(target=lambda n=n: seen.append(quote(ours, RESEARCHER, f"{n:03}")))  # type: ignore[misc]
        for n in range(MOST_EXPORTS + 2)
    ]
    for each in asking:
        each.start()
    while not seen:  # the first answer is a refusal, while the others take their time
        assert ours.succeeds(RESEARCHER, "datasite.requests")
    assert "under way" in seen[0]
    assert ours.succeeds(OTHER, "datasite.quote", source=training_source("other"), dataset="flu")
    for each in asking:
        each.join()
    assert "answered" in seen


def test_a_turn_is_given_back_whatever_became_of_it() -> None:
    turns = Turns(most=2, exports=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turns.taken("a"), turns.taken("a", export=True):
            raise ZeroDivisionError
    with turns.taken("a"), turns.taken("a"):
        with pytest.raises(NoTurn, match="2 calls under way"), turns.taken("a"):
            pass
        exporting = turns.taken("a", export=True)
        refused = pytest.raises(NoTurn, match="1 quotes and submissions")
        with turns.taken("b"), exporting, refused, turns.taken("a", export=True):
            pass
    assert not turns._under_way
