"""One step of training under shared noise: its grid, its price against exact chances, and what is refused in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import charge_for, epsilon_of, pld_epsilon, renyi_divergence, resolve
from policies.privacy.mechanisms import DPSGD, as_dict, mechanism_from
from policies.privacy.risk import loss_of
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_steps import (
    COARSEST,
    FINEST,
    MOST_NUMBERS,
    StepGrid,
    check_numbers,
    least_multiplier,
    shared_step,
)
from policies.privacy.sharing import SharedTraining, shared_of
from tests.policies.privacy.step_moments import rounded_sensitivity, step_divergence


def roster(count: int = 10, threshold: int = 7, colluding: int = 3, patients: int = 1000) -> SecureAggregation:
    parties = tuple(Party(f"Hospital {number}", f"{number:064x}", patients) for number in range(count))
    return SecureAggregation(threshold=threshold, hospitals=parties, mode="shared-noise", may_collude=colluding)


def training(declared: SecureAggregation | None = None, **changes: Any) -> DPSGD:
    facts: dict[str, Any] = {"loss": "cross_entropy", "rounds": 20, "steps": 1, "sampling_rate": 0.3,
                             "clipping_norm": 0.7, "learning_rate": 0.5, "epsilon": 2.0}  # fmt: skip
    return DPSGD(**{**facts, "secure_aggregation": declared or roster(), **changes})


def resolved(**changes: Any) -> DPSGD:
    made = resolve(training(**changes))
    assert isinstance(made, DPSGD)
    return made


REFUSED = {
    "steps": ({"steps": 2}, r"steps=2 a round cannot share one noise: each step reads weights.*Use steps=1"),
    "adam": ({"optimizer": "adam"}, r"optimizer='adam' cannot share one noise.*FedAdam"),
    "momentum": ({"momentum": 0.9}, r"momentum=0.9 is of no use under shared noise.*FedAvgM"),
    "proximal": ({"proximal_mu": 0.1}, r"proximal_mu=0.1 is of no use under shared noise"),
    "local": ({"local": ("head.*",), "public_weights": "0" * 64}, r"local=head\.\* cannot share one noise"),
    "compression": ({"compression": "int8"}, "compression='int8' and secure_aggregation do not go together"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_share_one_noise_is_refused_with_the_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=said):
        training(**changes)


def test_a_training_is_written_and_read_back() -> None:
    made = training()
    assert mechanism_from(as_dict(made)) == made
    assert training(replace(roster(), mode="masks", may_collude=0), steps=2).step_grid is None


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("accepted", [True, False])
def test_the_price_of_a_step_is_that_of_its_parts(rate: float, accepted: bool) -> None:
    made = resolved(sampling_rate=rate)
    step = shared_step(made.step_grid, made.noise_multiplier)  # type: ignore[arg-type]
    honest = step.parts if accepted else 1
    for order in (2, 8, 64):
        said = renyi_divergence(made, order, accepted=accepted)
        exact = step_divergence(
            step.variance * step.parts, honest=honest, parts=step.parts, order=order,  # type: ignore[arg-type]
            sensitivity=step.where.sensitivity, numbers=MOST_NUMBERS, sampling_rate=rate,
        )  # fmt: skip
        assert said == pytest.approx(exact, rel=1e-9, abs=2e-9)
    assert step.error(honest, 2) == 0.0  # parts are so wide that floats hold no less


def test_both_epsilons_are_of_all_rounds_and_the_second_is_charged_unless_accepted() -> None:
    made = resolved()
    shared = shared_of(made)
    assert isinstance(shared, SharedTraining)
    assumed, if_not = shared.epsilons_in_all
    assert 1.99 < assumed <= 2.0
    assert if_not == epsilon_of(made, made.delta) > 2 * assumed
    assert pld_epsilon(made, made.delta, accepted=True) == assumed  # of discrete Gaussians none is computed
    assert loss_of(made, 1e-5, accepted=True).epsilon == assumed
    assert loss_of(made, 1e-5).epsilon == if_not
    order = 8
    assert charge_for(made, order).divergence_nano > 2 * charge_for(made, order, accepted=True).divergence_nano
    sentence = shared.sentence()
    assert "Hospital 0, Hospital 1," in sentence
    assert "(δ = 0.00001)" in sentence
    bound: dict[str, Any] = {"request": "a" * 32, "plan_digest": "b" * 64}
    for other in (resolved(rounds=21), resolved(declared=roster(colluding=2)), resolved(clipping_norm=0.8)):
        beside = shared_of(other)
        assert beside is not None
        assert shared.acceptance(**bound) != beside.acceptance(**bound)


def test_noise_is_hardly_more_than_that_of_real_numbers_and_whole_with_just_enough_parts() -> None:
    own = resolve(replace(training(), secure_aggregation=None))
    assert isinstance(own, DPSGD)
    made = resolved()
    assert own.noise_multiplier is not None
    assert made.noise_multiplier is not None
    assert own.noise_multiplier < made.noise_multiplier < 1.02 * own.noise_multiplier
    step = shared_step(made.step_grid, made.noise_multiplier)  # type: ignore[arg-type]
    assert step.multiplier(step.parts) >= own.noise_multiplier > step.multiplier(step.parts - 1)  # one too few
    assert step.deviation(10) == pytest.approx(made.noise_multiplier * 0.7 * math.sqrt(10 / 4), rel=1e-6)
    assert least_multiplier(step.where, own.noise_multiplier) == made.noise_multiplier


def test_the_grid_follows_from_public_figures_and_its_sums_fit_a_word() -> None:
    seen = set()
    for patients in (10, 1000, 10_000, 40_000):
        where = StepGrid(roster=roster(patients=patients), clipping_norm=0.7, sampling_rate=0.2)
        seen.add(where.bits)
        assert COARSEST <= where.bits <= FINEST
        assert 2**where.bits <= where.units < 2 ** (where.bits + 1)
        assert where.sensitivity >= rounded_sensitivity(float(where.units), 4 * MOST_NUMBERS)  # √d, twice √d / 2
        if where.patients * 2 ** (where.bits + 1) <= where.largest:
            where.check()
            assert 10 * where.largest + 12 * 60 * float(where.units) * math.sqrt(10 / 2) < 2**31  # noise included
        else:
            with pytest.raises(UnsupportedMechanism, match=r"Lower sampling_rate, or train with masks"):
                where.check()
    assert {FINEST, COARSEST} < seen


def test_what_cannot_be_summed_drawn_or_priced_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match=r"sampling_rate=0.3 of 10,000,000 patients"):
        resolve(training(roster(patients=10**7)))
    with pytest.raises(UnsupportedMechanism, match="noise_multiplier=61 is above 60"):
        resolve(training(epsilon=None, noise_multiplier=61.0))
    with pytest.raises(UnsupportedMechanism, match=r"in 4 parts leaves each one 0\.03.* below 0\.05"):
        resolve(training(epsilon=None, noise_multiplier=0.06))
    check_numbers(MOST_NUMBERS)
    with pytest.raises(UnsupportedMechanism, match="1,048,577 numbers, above 1,048,576"):
        check_numbers(MOST_NUMBERS + 1)
