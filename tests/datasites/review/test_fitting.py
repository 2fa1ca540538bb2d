"""Which waiting requests fit together: by age, the most of them, and how long it takes to say so."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasites.ledger.admission import Asked, Standing
from datasites.ledger.amounts import NOWHERE, Amount, Balance, Charged, Kept
from datasites.ledger.years import Year, YearlyPlan
from datasites.review import fitting
from datasites.review.fitting import Candidate, Chosen, in_order, most_together
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from tests.datasites.ledger.ledger_factories import NATS


def standing(
    *, used: Charged = NOWHERE, year: float | None = None, kept: float = 0.0, share: float | None = None
) -> Standing:
    """ε = 6, of which 1 turns δ into ε."""
    facts = {"order": 16, "conversion_nano": NATS, "spent": NOWHERE, "is_split": True}
    balance = Balance(budget=PrivacyBudget(6.0, 1e-5), capacity_nano=5 * NATS, reserved=used, **facts)  # type: ignore[arg-type]
    parts = (int((year or 0) * NATS),) * 2
    own = PrivacyBudget(share or 6.0, 1e-5)
    limited = Balance(budget=own, capacity_nano=int((own.epsilon - 1) * NATS), reserved=NOWHERE, **facts)  # type: ignore[arg-type]
    return Standing(
        population="city",
        balance=balance,
        delta_capacity_atto=0,
        parts={1: Kept(int(kept * NATS))} if kept else {},
        year=None if year is None else Year(2026, YearlyPlan(year), NATS, (parts[0], parts[1]), NOWHERE, used),
        shares={} if share is None else {"0": limited},
    )


def training(nats: float, reads: Patients = Patients.ALL) -> Charged:
    return Charged.to(reads, Amount(int(nats * NATS), 0, 1))


def pure(epsilon: float, reads: Patients = Patients.ALL) -> Charged:
    return Charged.to(reads, Amount(int(0.9 * epsilon * NATS), int(epsilon * NATS)))


def candidates(*totals: Charged, part: int | None = None) -> list[Candidate]:
    return [Candidate(str(number), Asked(total, str(number), part)) for number, total in enumerate(totals)]


def test_each_line_says_what_is_left_after_it_and_why_one_is_passed_over() -> None:
    lines = in_order(standing(year=4.5), candidates(training(2), training(4), training(6), training(1)))
    assert [(line.fits, line.alone) for line in lines] == [(True, True), (False, False), (False, False), (True, True)]
    assert [round(line.left, 6) for line in lines] == [3.0, 3.0, 3.0, 2.0]
    assert [line.left_this_year for line in lines] == [1.5, 1.5, 1.5, 0.5]
    assert all("remains of population 'city'" in line.why for line in lines[1:3])
    assert "part of 2026" in in_order(standing(year=4.5), candidates(training(4)))[0].why
    assert [line.added for line in lines] == [3.0, 4.0, 6.0, 1.0]  # the first adds what turning δ into ε costs


def test_one_that_fits_alone_but_not_with_those_before_says_so() -> None:
    lines = in_order(standing(), candidates(training(3), training(3)))
    assert [(line.fits, line.alone) for line in lines] == [(True, True), (False, True)]


def test_the_most_is_more_than_the_oldest_give() -> None:
    asked = candidates(training(4), training(2), training(2), training(1))
    assert sum(line.fits for line in in_order(standing(), asked)) == 2
    assert most_together(standing(), asked) == Chosen(("1", "2", "3"), is_largest=True)


GREEDY_IS_WORSE = (training(2.6), training(2.7, Patients.TRAINING), training(2.7, Patients.HELD_OUT))
"""The smallest is charged to both accounts, and leaves neither enough; the two others have one each."""


def test_small_first_is_not_enough_and_every_set_is_looked_at() -> None:
    assert most_together(standing(), candidates(*GREEDY_IS_WORSE)) == Chosen(("1", "2"), is_largest=True)


def test_who_trains_and_who_is_held_out_are_counted_apart() -> None:
    asked = candidates(
        *(training(2.5, reads) for reads in (Patients.TRAINING, Patients.HELD_OUT) for _ in range(2)), training(0.1)
    )
    assert len(most_together(standing(), asked).ids) == 4


def test_a_projects_requests_use_what_is_reserved_for_it() -> None:
    now = standing(kept=3.0)
    others, own = candidates(training(2), training(2)), candidates(training(3), part=1)
    assert len(most_together(now, others).ids) == 1
    assert [line.fits for line in in_order(now, [*others, *own])] == [True, False, True]


def test_a_researchers_limit_counts() -> None:
    asked = [Candidate(str(number), Asked(training(0.4), "0")) for number in range(3)]
    assert len(most_together(standing(share=2.0), asked).ids) == 2


AMOUNTS = st.one_of(
    st.builds(training, st.sampled_from([0.3, 1.0, 1.9, 2.6]), st.sampled_from(Patients)),
    st.builds(pure, st.sampled_from([0.3, 1.0, 1.9, 2.6]), st.sampled_from(Patients)),
)


@settings(max_examples=60, deadline=None)
@given(
    totals=st.lists(AMOUNTS, max_size=8),
    used=AMOUNTS | st.just(NOWHERE),
    year=st.none() | st.sampled_from([1.0, 3.0, 7.0]),
    kept=st.sampled_from([0.0, 1.5]),
    share=st.none() | st.sampled_from([1.5, 3.0]),
    drawing=st.integers(0, 255),
)
def test_no_set_of_more_fits_where_it_says_so(
    totals: list[Charged], used: Charged, year: float | None, kept: float, share: float | None, drawing: int
) -> None:
    now = standing(used=used, year=year, kept=kept, share=share)
    asked = [
        Candidate(str(number), Asked(total, str(number % 2), 1 if kept and drawing >> number & 1 else None))
        for number, total in enumerate(totals)
    ]
    found = most_together(now, asked)
    assert _fits(now, [candidate for candidate in asked if candidate.id in found.ids])
    most = max(len(some) for some in _subsets(asked) if _fits(now, some))
    assert found.is_largest
    assert len(found.ids) == most


def _subsets(asked: list[Candidate]) -> list[tuple[Candidate, ...]]:
    return [some for size in range(len(asked) + 1) for some in itertools.combinations(asked, size)]


def _fits(now: Standing, some: list[Candidate] | tuple[Candidate, ...]) -> bool:
    for candidate in some:
        if not now.holds(candidate.asked):
            return False
        now = now.after(candidate.asked)
    return True


def test_many_alike_are_known_to_be_the_most_without_looking_at_every_set() -> None:
    found = most_together(standing(), candidates(*(training(0.5) for _ in range(500))))
    assert (len(found.ids), found.is_largest) == (10, True)


def test_what_was_not_looked_through_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_STEPS", 1)
    assert most_together(standing(), candidates(*GREEDY_IS_WORSE)) == Chosen(("0",), is_largest=False)


def test_a_long_list_takes_no_longer_than_a_page_may() -> None:
    """Processor time, of amounts that all differ, in both accounts, with a plan and a part."""
    totals = [
        (training if number % 2 else pure)(0.2 + number % 97 / 100, list(Patients)[number % 3]) for number in range(500)
    ]
    now, began = standing(year=5.0, kept=1.0), time.process_time()
    in_order(now, candidates(*totals))
    most_together(now, candidates(*totals))
    most_together(now, candidates(*totals[:24]))
    assert time.process_time() - began < 5.0


def test_nothing_here_reads_or_writes() -> None:
    source = Path(fitting.__file__).read_text(encoding="utf-8")
    assert not any(word in source for word in ("sqlite3", "import os", "Ledger"))
