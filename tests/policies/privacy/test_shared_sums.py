"""Two ε of hospitals that share one noise: neither said too low, the smaller one charged only where it was accepted."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import (
    ORDERS,
    charge_for,
    conversion,
    epsilon_of,
    pld_epsilon,
    renyi_divergence,
    resolve,
)
from policies.privacy.checks import Patients
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Query, Statistics
from policies.privacy.nano import nano_up
from policies.privacy.secure_aggregation import Party, SecureAggregation, secure_aggregation_from
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_noise import laplace_loss, laplace_variance
from policies.privacy.shared_steps import check_one_step
from policies.privacy.shared_sums import (
    LEAST_EPSILON,
    MOST_NUMBERS,
    SharedDraws,
    check_fits,
    grid_of,
)
from tests.policies.privacy.step_moments import rounded_sensitivity, step_divergence

DECISION = Path(__file__).parents[3] / "docs" / "decisions" / "0040-shared-noise-of-hospitals.md"
TABLE = [(3, 2, 0), (10, 6, 0), (10, 6, 1), (10, 7, 3), (50, 26, 0), (50, 26, 1), (50, 34, 17)]
ORDER = 24
FloatArray = npt.NDArray[np.float64]


def roster(hospitals: int, threshold: int, colluding: int, first: int = 0) -> SecureAggregation:
    parties = tuple(Party(f"Hospital {number}", f"{first + number:064x}", 900) for number in range(hospitals))
    return SecureAggregation(threshold=threshold, hospitals=parties, mode="shared-noise", may_collude=colluding)


def counts(hospitals: int = 10, threshold: int = 7, colluding: int = 3, *draws: float) -> SharedDraws:
    return SharedDraws(roster=roster(hospitals, threshold, colluding), draws=draws or (1.0,))


def asked(*names: str, epsilon: float = 0.75, **settings: Any) -> Statistics:
    queries = tuple(Query(name, () if name == "count" else ("age",)) for name in names)
    return Statistics(queries=queries, epsilon=epsilon, secure_aggregation=roster(10, 7, 3), **settings)


def seen(epsilon: float, honest: int, parts: int) -> float:
    """The largest privacy loss over every outcome when a count moves by one patient: of the distribution itself."""
    halvings, steps = grid_of(epsilon)
    one = stats.nbinom.pmf(np.arange(60 << halvings), honest / parts, 2.0**-halvings)
    logs = np.log(np.correlate(one, one, mode="full")[len(one) - 1 :][: 20 << halvings])
    both = np.concatenate([logs[:0:-1], logs])
    return float(np.abs(both[steps:] - both[:-steps]).max())


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(("hospitals", "threshold", "colluding"), [(3, 2, 0), (3, 3, 1), (10, 7, 3), (10, 6, 1)])
def test_just_enough_secret_parts_show_no_more_than_is_said_and_one_too_few_show_more(
    hospitals: int, threshold: int, colluding: int, epsilon: float
) -> None:
    shared = counts(hospitals, threshold, colluding, epsilon)
    secret = threshold - colluding  # of the smallest sum that a relay can have opened
    assert 63 / 64 * epsilon < seen(epsilon, secret, shared.parts) <= shared.epsilon
    assert seen(epsilon, secret - 1, shared.parts) > shared.epsilon
    alone = seen(epsilon, 1, shared.parts)
    assert alone <= shared.epsilon_if_not <= alone + 0.01


def test_parts_of_which_t_make_the_whole_would_be_too_small_beside_hospitals_that_collude() -> None:
    shared = counts(10, 7, 3)
    assert seen(1.0, 7 - 3, 7) > 1.3 * shared.epsilon  # what forgetting the k costs


@pytest.mark.parametrize(("threshold", "most"), [(6, 1), (7, 3), (10, 8)])
def test_no_more_are_assumed_to_collude_than_the_masks_hold_against(threshold: int, most: int) -> None:
    assert counts(10, threshold, most).parts == threshold - most >= 2
    with pytest.raises(UnsupportedMechanism, match=f"collude={most + 1} is above {most}: .*threshold of {threshold}"):
        counts(10, threshold, most + 1)


@pytest.mark.parametrize("colluding", [-1, 1.0, True])
def test_a_k_that_is_no_count_is_refused(colluding: int) -> None:
    with pytest.raises(UnsupportedMechanism, match="may_collude="):
        counts(10, 7, colluding)


def test_masks_assume_nothing_of_anybody_and_are_written_as_before() -> None:
    masks = dataclasses.replace(roster(3, 2, 0), mode="masks")
    assert list(masks.as_dict()) == ["mode", "threshold", "reach", "hospitals"]  # digests of old plans stay
    assert (masks.parts, roster(3, 2, 0).parts) == (1, 2)
    with pytest.raises(UnsupportedMechanism, match=r"may_collude=1 is for mode='shared-noise'"):
        dataclasses.replace(masks, may_collude=1)
    with pytest.raises(UnsupportedMechanism, match="mode='masks' shares no noise"):
        SharedDraws(roster=masks, draws=(1.0,))
    shared = roster(10, 7, 3)
    assert secure_aggregation_from(shared.as_dict()) == shared


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e-4, 101.0, math.nan])
def test_an_epsilon_that_no_grid_carries_is_refused(epsilon: float) -> None:
    with pytest.raises(UnsupportedMechanism, match="epsilon of a draw"):
        counts(10, 7, 3, epsilon)


def test_draws_add_up_one_by_one_and_not_as_one_that_moves_further() -> None:
    two, (halvings, steps) = counts(10, 7, 3, 0.5, 0.5), grid_of(0.5)
    assert two.epsilon == 1.0
    assert two.epsilon_if_not == pytest.approx(2 * counts(10, 7, 3, 0.5).epsilon_if_not)
    # Under a single part a loss grows slower than the distance, so the shortcut would be too little.
    assert two.epsilon_if_not > laplace_loss(halvings, honest=1, parties=4, distance=2 * steps)


@pytest.mark.parametrize("epsilon", [LEAST_EPSILON, 0.05, 1.0, 2.0, 100.0])
def test_a_draws_steps_never_cost_more_than_its_epsilon(epsilon: float) -> None:
    halvings, steps = grid_of(epsilon)
    loss = laplace_loss(halvings, honest=4, parties=4, distance=steps)
    assert loss <= epsilon * (1 + 1e-12)
    # One step more is no longer within it, and no coarser noise has 64 steps.
    assert laplace_loss(halvings, honest=4, parties=4, distance=steps + 1) > epsilon
    assert steps >= 64
    assert halvings == 1 or math.floor(epsilon * 2 ** (halvings - 1)) < 65


@pytest.mark.parametrize("hospitals", [2, 100])
@pytest.mark.parametrize("epsilon", [LEAST_EPSILON, 1.0])
def test_the_sum_of_the_largest_hospitals_fits_a_word(hospitals: int, epsilon: float) -> None:
    shared, (halvings, steps) = counts(hospitals, hospitals, 0, epsilon), grid_of(epsilon)
    most = shared.most_patients()
    assert most > 10_000
    assert hospitals * (most * steps + (64 << halvings)) < 2**31
    assert hospitals * ((most + 1) * steps + (64 << halvings)) > 2**31 - 1 - hospitals


def test_standard_errors_are_those_of_the_distributions() -> None:
    shared, (halvings, steps) = counts(10, 7, 3), grid_of(1.0)
    one = stats.nbinom.var(1 / 4, 2.0**-halvings)
    assert shared.standard_error(0, hospitals=9) == pytest.approx(math.sqrt(9 * 2 * one) / steps, rel=1e-9)
    values = np.arange(-200.0, 201)
    weights = np.exp(-np.abs(values))
    own = math.sqrt(9 * float((weights * values**2).sum() / weights.sum()))
    assert shared.standard_error_of_whole_noises(0, hospitals=9) == pytest.approx(own, rel=1e-9)
    for too in (6, 11):
        with pytest.raises(UnsupportedMechanism, match=rf"hospitals of a sum={too} is outside \[7, 10\]"):
            shared.standard_error(0, hospitals=too)


# -- what is charged ---------------------------------------------------------------------------------------------------


def test_the_ledger_charges_what_holds_without_trust_unless_the_owner_accepted() -> None:
    mechanism = asked("count", "histogram", "missing")
    shared = shared_draws(mechanism)
    assert shared is not None
    assert shared.draws == (0.25, 0.25, 0.25)
    less, more = charge_for(mechanism, ORDER, accepted=True), charge_for(mechanism, ORDER)
    assert less.pure_epsilon_nano == nano_up(0.75)
    assert more.pure_epsilon_nano == nano_up(shared.epsilon_if_not) > 4 * nano_up(0.75)
    assert more.divergence_nano > less.divergence_nano
    assert (more.reads, more.delta) == (Patients.ALL, 0.0)
    several = asked("count", rounds=3)
    for function in (epsilon_of, pld_epsilon):  # whoever asks without a word of acceptance is told the larger one
        assert function(several, 1e-5) > 3 * function(several, 1e-5, accepted=True) > 0
    assert epsilon_of(several, 1e-5, accepted=True) == 2.25


def test_each_draw_is_charged_as_what_its_own_epsilon_admits() -> None:
    queries = (Query("quantiles", ("age",), (0.5,)), Query("count"))
    tree = shared_draws(dataclasses.replace(asked("count"), queries=queries))
    assert tree is not None
    assert tree.draws == (0.09375,) * 4 + (0.375,)  # a level of the tree each, and the count


@pytest.mark.parametrize(("name", "draws"), [("sum", 1), ("mean", 2), ("variance", 3)])
def test_sums_of_values_are_draws_like_counts(name: str, draws: int) -> None:
    shared = shared_draws(asked("count", name))
    assert shared is not None
    assert shared.draws == pytest.approx((0.375, *[0.375 / draws] * draws))
    counted = shared_draws(asked("count", "missing"))
    assert counted is not None
    assert shared.standard_error(0, hospitals=8) == counted.standard_error(0, hospitals=8)
    assert shared.epsilon == pytest.approx(counted.epsilon, abs=1e-8)


def test_rounding_a_sum_adds_a_twelfth_of_a_squared_step_at_each_hospital() -> None:
    for epsilon in (1.0, 20.0):
        shared = SharedDraws(roster=roster(10, 7, 3), draws=(epsilon,))
        halvings, _ = grid_of(epsilon)
        noise = 8 / shared.parts * laplace_variance(halvings, 1)
        assert shared.rounding(0) == pytest.approx(math.sqrt((noise + 8 / 12) / noise))


def test_more_records_of_a_patient_and_other_kinds_are_refused_in_words() -> None:
    with pytest.raises(UnsupportedMechanism, match="records_per_patient=2 cannot share one noise"):
        resolve(asked("count", records_per_patient=2))
    shared = roster(3, 2, 0)
    for loss in ("discrete_hazards", "multilabel_binary_cross_entropy_with_logits"):
        with pytest.raises(UnsupportedMechanism, match=f"loss='{loss}' cannot share one noise"):
            resolve(Evaluation(loss=loss, epsilon=1.0, secure_aggregation=shared))

    class Later:  # a mechanism that nobody has thought of here
        kind, rounds, secure_aggregation = "later", 1, shared

    with pytest.raises(UnsupportedMechanism, match=r"later cannot share one noise\. Shared noise is for statistics"):
        shared_draws(Later())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mechanism",
    [
        KaplanMeier(time="stay", event="died", epsilon=0.5, secure_aggregation=roster(3, 2, 0)),
        Evaluation(loss="cross_entropy", epsilon=0.5, secure_aggregation=roster(3, 2, 0)),
        Evaluation(loss="huber", epsilon=0.5, subgroups=("sex",), secure_aggregation=roster(3, 2, 0)),
    ],
)
def test_tables_of_patients_are_counts(mechanism: Mechanism) -> None:
    shared = shared_draws(mechanism)
    assert shared is not None
    assert shared.epsilon == pytest.approx(0.5)
    assert charge_for(mechanism, 8, accepted=True).pure_epsilon_nano == nano_up(shared.epsilon)


def test_numbers_and_patients_that_no_word_holds_are_refused() -> None:
    shared = counts(10, 7, 3)
    check_fits(shared, MOST_NUMBERS)
    with pytest.raises(UnsupportedMechanism, match="50,001 numbers are above 50,000"):
        check_fits(shared, MOST_NUMBERS + 1)
    large = tuple(dataclasses.replace(party, patients=10**7) for party in shared.roster.hospitals)
    with pytest.raises(UnsupportedMechanism, match="the largest may have 20,000,000"):
        check_fits(SharedDraws(roster=dataclasses.replace(shared.roster, hospitals=large), draws=(1.0,)), 1)


@pytest.mark.parametrize(
    "other",
    [
        SharedDraws(roster=roster(10, 7, 3, first=50), draws=(1.0,)),  # the same names, other keys
        SharedDraws(roster=roster(10, 8, 3), draws=(1.0,)),
        SharedDraws(roster=roster(11, 7, 2), draws=(1.0,)),
        SharedDraws(roster=roster(10, 7, 2), draws=(1.0,)),
        SharedDraws(roster=roster(10, 7, 3), draws=(1.001,)),
        SharedDraws(roster=roster(10, 7, 3), draws=(0.5, 0.5)),
        SharedDraws(roster=roster(10, 7, 3), draws=(1.0,), rounds=2),
    ],
    ids=["keys", "threshold", "hospitals", "k", "epsilon", "draws", "rounds"],
)
def test_an_acceptance_counts_for_no_other_roster_and_no_other_epsilon(other: SharedDraws) -> None:
    bound: dict[str, Any] = {"request": "a" * 32, "plan_digest": "b" * 64}
    word = counts().acceptance(**bound)
    assert word == counts().acceptance(**bound)
    assert word != other.acceptance(**bound)
    assert word != counts().acceptance(**{**bound, "request": "c" * 32})  # nor for another request
    assert word != counts().acceptance(**{**bound, "plan_digest": "c" * 64})  # nor for another plan


@pytest.mark.parametrize(("colluding", "words"), [(0, "none of them works"), (1, "more than 1 of them works"),
                                                  (3, "more than 3 of them work ")])  # fmt: skip
def test_the_sentence_names_every_hospital_and_both_epsilons(colluding: int, words: str) -> None:
    shared = counts(10, 7, colluding)
    sentence = shared.sentence()
    assert all(party.name in sentence for party in shared.roster.hospitals)
    assert words in sentence
    assert "ε = 1.00 of any patient" in sentence
    said = float(sentence.split("up to ε = ")[1].split(",")[0])
    assert shared.epsilon_if_not <= said < shared.epsilon_if_not + 0.01  # never rounded down


# -- one step of training ----------------------------------------------------------------------------------------------


def parts_summed(each: float, honest: int) -> FloatArray:
    """Chances of a sum of discrete Gaussians of the variance `each`, around the middle of an odd number of values."""
    weights = np.exp(-(np.arange(-90.0, 91) ** 2) / (2 * each))
    one = summed = weights / weights.sum()
    for _ in range(honest - 1):
        summed = np.convolve(summed, one)
    return np.asarray(summed, dtype=np.float64)


@pytest.mark.parametrize(("each", "parts", "honest"), [(0.25, 3, 3), (0.25, 3, 1), (4.0, 4, 4), (4.0, 4, 3)])
@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("order", [2, 5, 9])
def test_one_steps_divergence_is_never_said_too_low_in_either_direction(
    each: float, parts: int, honest: int, rate: float, order: int
) -> None:
    summed = np.pad(parts_summed(each, honest), 2)
    still, moved = summed[2:-2], summed[:-4]  # by 2 to the right
    mixed = (1 - rate) * still + rate * moved
    shown = (still > 1e-300) & (moved > 1e-300)  # what float64 holds; the rest adds nothing
    said = step_divergence(
        Fraction(each) * parts,
        honest=honest,
        parts=parts,
        order=order,
        sensitivity=2,
        numbers=1,
        sampling_rate=rate,
    )

    def exact(one: FloatArray, other: FloatArray) -> float:
        logs = order * np.log(one[shown]) + (1 - order) * np.log(other[shown])
        return float(np.logaddexp.reduce(logs)) / (order - 1)

    assert max(exact(mixed, still), exact(still, mixed)) <= said
    if each >= 4:  # where parts are a quarter wide, the error that is charged is most of it
        assert said <= 1.001 * exact(mixed, still) + 2e-9


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("order", [2, 16, 64])
def test_a_fine_grids_step_is_that_of_the_accountant(rate: float, order: int) -> None:
    usual = DPSGD(
        loss="binary_cross_entropy",
        noise_multiplier=1.5,
        clipping_norm=1.0,
        steps=1,
        sampling_rate=rate,
        rounds=1,
        learning_rate=0.1,
    )
    said = step_divergence(
        Fraction(1500**2), honest=5, parts=5, order=order, sensitivity=1000, numbers=1000, sampling_rate=rate
    )
    assert said == pytest.approx(renyi_divergence(usual, order), rel=1e-6, abs=2e-9)


def test_fewer_honest_hospitals_lose_more_and_none_is_refused() -> None:
    losses = [
        step_divergence(Fraction(40), honest=honest, parts=4, order=8, sensitivity=3, numbers=10, sampling_rate=0.2)
        for honest in (4, 3, 2, 1)
    ]
    assert all(one < other for one, other in itertools.pairwise(losses))
    for honest in (0, 5):
        with pytest.raises(UnsupportedMechanism, match=f"honest={honest}"):
            step_divergence(
                Fraction(40), honest=honest, parts=4, order=8, sensitivity=3, numbers=10, sampling_rate=0.2
            )  # fmt: skip


def test_rounding_moves_a_patients_numbers_by_no_more_than_is_said() -> None:
    draws = np.random.default_rng(3).normal(size=(2000, 12))
    held = draws / np.linalg.norm(draws, axis=1, keepdims=True) * 5
    lengths = np.linalg.norm(np.round(held), axis=1)
    assert 5 < lengths.max() <= rounded_sensitivity(5, 12) == 5 + math.sqrt(12) / 2


def test_more_steps_than_one_are_refused_in_words() -> None:
    check_one_step(1)
    with pytest.raises(UnsupportedMechanism, match=r'steps=8 a round cannot share one noise.*steps=1, or mode="masks"'):
        check_one_step(8)


# -- the decision's table ----------------------------------------------------------------------------------------------


def gaussian_if_not(parts: int) -> float:
    """ε at δ = 1e-5 of one part, where `parts` of them make a noise with ε = 2."""

    def epsilon(noise: float, honest: int) -> float:
        return min(
            step_divergence(
                Fraction(round(noise * 2**20)) ** 2,
                honest=honest, parts=parts, order=order, sensitivity=2**20, numbers=1, sampling_rate=1.0,
            ) + conversion(order, 1e-5)
            for order in ORDERS
        )  # fmt: skip

    low, high = 0.5, 20.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if epsilon(middle, parts) <= 2 else (middle, high)
    return epsilon(high, 1)


def row(hospitals: int, threshold: int, colluding: int) -> str:
    shared = counts(hospitals, threshold, colluding)
    own = shared.standard_error_of_whole_noises(0, hospitals=hospitals)
    one = shared.standard_error(0, hospitals=hospitals)
    cells = (
        hospitals, threshold, colluding, shared.parts, f"{own:.2f}", f"{one:.2f}", f"{own / one:.1f}",
        f"{shared.epsilon_if_not:.1f}", f"{gaussian_if_not(shared.parts):.1f}",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def test_the_researchers_table_is_what_the_code_computes() -> None:
    text = DECISION.parents[1].joinpath("researchers.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d+ \| \d+ \| \d+ \| \d+\.", line)
    ]
    assert len(rows) == 5
    for written in rows:
        computed = row(*map(int, written[:3])).strip("| ").split(" | ")
        assert written == [*computed[:3], *computed[4:6], computed[7]]


@pytest.mark.parametrize(("hospitals", "threshold", "colluding"), TABLE)
def test_the_decisions_table_is_what_the_code_computes(hospitals: int, threshold: int, colluding: int) -> None:
    assert row(hospitals, threshold, colluding) in DECISION.read_text(encoding="utf-8").splitlines()
