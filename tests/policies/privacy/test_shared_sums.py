"""Two ε of hospitals that share one noise: neither said too low, the smaller one charged only where it was accepted."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import ORDERS, conversion, renyi_divergence
from policies.privacy.checks import Patients
from policies.privacy.mechanisms import DPSGD
from policies.privacy.nano import nano_up
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_noise import laplace_loss
from policies.privacy.shared_sums import (
    LEAST_EPSILON,
    Acceptance,
    SharedCounts,
    charged,
    check_one_step,
    grid_of,
    rounded_sensitivity,
    step_divergence,
)

DECISION = Path(__file__).parents[3] / "docs" / "decisions" / "0040-shared-noise-of-hospitals.md"
TABLE = [(3, 2, 0), (10, 6, 0), (10, 6, 1), (10, 7, 3), (50, 26, 0), (50, 26, 1), (50, 34, 17)]
ORDER = 24
FloatArray = npt.NDArray[np.float64]


def roster(hospitals: int, threshold: int, first: int = 0) -> SecureAggregation:
    parties = tuple(Party(f"Hospital {number}", f"{first + number:064x}", 900) for number in range(hospitals))
    return SecureAggregation(threshold=threshold, hospitals=parties)


def counts(hospitals: int = 10, threshold: int = 7, colluding: int = 3, *draws: float) -> SharedCounts:
    return SharedCounts(roster=roster(hospitals, threshold), colluding=colluding, draws=draws or (1.0,))


def accepted(shared: SharedCounts) -> Acceptance:
    return Acceptance(digest=shared.digest, sentence=shared.sentence())


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
    with pytest.raises(UnsupportedMechanism, match=f"colluding={most + 1} is above {most}: .*threshold of {threshold}"):
        counts(10, threshold, most + 1)


@pytest.mark.parametrize("colluding", [-1, 1.0, True])
def test_a_k_that_is_no_count_is_refused(colluding: int) -> None:
    with pytest.raises(UnsupportedMechanism, match="colluding="):
        counts(10, 7, colluding)


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
    shared = counts(10, 7, 3, 0.5, 0.25)
    assert charged(shared, ORDER, accepted=None) == shared.charge_if_not(ORDER)
    assert charged(shared, ORDER, accepted=None, cap=100.0) == shared.charge_if_not(ORDER)  # a cap accepts nothing
    less = charged(shared, ORDER, accepted=accepted(shared), cap=shared.epsilon_if_not, reads=Patients.HELD_OUT)
    assert less == shared.charge_as_assumed(ORDER, reads=Patients.HELD_OUT)
    assert less.pure_epsilon_nano == nano_up(0.75)
    more = shared.charge_if_not(ORDER)
    assert more.pure_epsilon_nano == nano_up(shared.epsilon_if_not) > 4 * nano_up(0.75)
    assert more.divergence_nano > less.divergence_nano
    assert (more.reads, less.reads, more.delta) == (Patients.ALL, Patients.HELD_OUT, 0.0)


def test_a_policy_that_says_nothing_allows_no_acceptance() -> None:
    shared = counts()
    with pytest.raises(
        UnsupportedMechanism, match=r"shows ε = 5\.09, above the policy's cap of 0\. Approve it without"
    ):
        charged(shared, ORDER, accepted=accepted(shared))
    with pytest.raises(UnsupportedMechanism, match="above the policy's cap of 5"):
        charged(shared, ORDER, accepted=accepted(shared), cap=5.0)


@pytest.mark.parametrize(
    "other",
    [
        SharedCounts(roster=roster(10, 7, first=50), colluding=3, draws=(1.0,)),  # the same names, other keys
        SharedCounts(roster=roster(10, 8), colluding=3, draws=(1.0,)),
        SharedCounts(roster=roster(11, 7), colluding=2, draws=(1.0,)),
        SharedCounts(roster=roster(10, 7), colluding=2, draws=(1.0,)),
        SharedCounts(roster=roster(10, 7), colluding=3, draws=(1.001,)),
        SharedCounts(roster=roster(10, 7), colluding=3, draws=(0.5, 0.5)),
    ],
    ids=["keys", "threshold", "hospitals", "colluding", "epsilon", "draws"],
)
def test_an_acceptance_counts_for_no_other_roster_and_no_other_epsilon(other: SharedCounts) -> None:
    with pytest.raises(UnsupportedMechanism, match="Read this request's sentence"):
        charged(other, ORDER, accepted=accepted(counts()), cap=100.0)


def test_an_acceptance_of_other_words_counts_for_nothing() -> None:
    shared = counts()
    softer = dataclasses.replace(accepted(shared), sentence="I accept.")
    with pytest.raises(UnsupportedMechanism, match="Read this request's sentence"):
        charged(shared, ORDER, accepted=softer, cap=100.0)


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


@pytest.mark.parametrize(("hospitals", "threshold", "colluding"), TABLE)
def test_the_decisions_table_is_what_the_code_computes(hospitals: int, threshold: int, colluding: int) -> None:
    assert row(hospitals, threshold, colluding) in DECISION.read_text(encoding="utf-8").splitlines()
