"""The judge itself: its curve is the closed form's, its power is the measured one, and ε alone would see nothing."""

import numpy as np
import pytest
from scipy.stats import norm

from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Evaluation, Query
from tests.proof.curves import stated
from tests.proof.decisions import ALARM, EACH, PAIRS, found, power, power_of_epsilon_alone, trials_for
from tests.proof.mechanisms.devices import DeviceCase
from tests.proof.mechanisms.dp_sgd import LOSS, sgd, shifted
from tests.proof.mechanisms.secure_sums import COUNTED
from tests.proof.mechanisms.statistics import statistics
from tests.proof.registry import cases, curve_of


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_the_curve_of_one_full_step_is_that_of_two_gaussians(noise: float) -> None:
    # Dong, Roth and Su 2022, arXiv:1905.02383: power Φ(Φ⁻¹(p) + 1/σ).
    chances = np.array([0.001, 0.02, 0.2, 0.5, 0.9])
    expected = norm.cdf(norm.ppf(chances) + 1 / noise)
    for most in (curve_of(sgd(noise_multiplier=noise)).most, curve_of(sgd(noise_multiplier=noise)).most_without):
        assert most(chances) == pytest.approx(expected, abs=2e-3)
        assert (most(chances) >= expected - 1e-9).all()  # never stricter than what was declared


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rate", [1 / 16, 0.5])
def test_the_curve_of_a_sampled_step_tells_its_two_directions_apart(noise: float, rate: float) -> None:
    # The likelihood ratio grows with what is seen, so the best event is "above a threshold": one way round, and the
    # other. A curve whose directions were taken for one another would be below the first of these or the second.
    thresholds = np.linspace(-3 * noise, 1 + 3 * noise, 41)

    def above(each: np.ndarray) -> np.ndarray:
        return np.asarray((1 - rate) * norm.sf(each / noise) + rate * norm.sf((each - 1) / noise))

    curve = curve_of(sgd(noise_multiplier=noise, sampling_rate=rate))
    with_patient, without = curve.most(norm.sf(thresholds / noise)), curve.most_without(1 - above(thresholds))
    assert with_patient == pytest.approx(above(thresholds), abs=3e-3)
    assert without == pytest.approx(norm.cdf(thresholds / noise), abs=3e-3)
    assert (with_patient >= above(thresholds) - 1e-9).all()
    assert (without >= norm.cdf(thresholds / noise) - 1e-9).all()


def test_the_curve_of_a_noisy_count_is_that_of_two_laplaces() -> None:
    # Below a threshold of 1: p = ½e^{-εt} without, and ½e^{-ε(t-1)} = e^ε p with the patient.
    curve = curve_of(statistics(Query("count"), epsilon=1.0))
    assert curve.most(0.05) == pytest.approx(0.05 * np.e, rel=0.01)
    # Between both centres, t = 0: a half without, and with the patient 1 - ½e^{-ε}.
    assert curve.most(0.5) == pytest.approx(1 - np.exp(-1) / 2, rel=0.01)
    assert curve_of(Evaluation(loss=LOSS, epsilon=1.0)).most(0.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", cases())
def test_the_curve_lies_within_the_epsilon_that_is_charged(name: str) -> None:
    case = cases()[name]
    if isinstance(case, DeviceCase):
        curve, epsilon, delta = case.curve, case.epsilon, case.delta
    else:
        mechanism = accountant.resolve(case.declared)
        curve, (epsilon, delta) = curve_of(mechanism), stated(mechanism)
    wider = 1.02 if name == COUNTED else 1.002  # four draws of equal ε, each rounded to the grid of the curve
    assert curve.delta(epsilon * wider + 0.002) <= max(delta, 1e-9)  # of the grid, and of its interval


def test_the_power_that_is_stated_is_the_power_that_is_had() -> None:
    # Half of a noise of 1 puts two Gaussians 2 deviations apart instead of 1.
    curve = curve_of(sgd(noise_multiplier=1.0))
    chances, rng = shifted(2.0), np.random.default_rng(0)
    for trials in (150, 250):
        counts = rng.binomial(trials, chances, size=(1000, 2))
        had = np.mean([found(curve, int(false), int(true), trials) for false, true in counts])
        wanted = power(curve, *chances, trials)
        assert 0.05 < wanted < 0.999
        assert had == pytest.approx(wanted, abs=5 * np.sqrt(wanted * (1 - wanted) / 1000) + 0.02)


def test_false_alarms_are_rarer_than_stated() -> None:
    curve, alarm = curve_of(sgd(noise_multiplier=1.0)), 0.02
    chances = shifted(1.0)  # exactly what the mechanism allows
    counts = np.random.default_rng(1).binomial(400, chances, size=(2000, 2))
    alarms = sum(found(curve, int(false), int(true), 400, alarm=alarm) for false, true in counts)
    assert alarms <= 2000 * alarm + 5 * np.sqrt(2000 * alarm)
    assert EACH * PAIRS == ALARM


def test_epsilon_alone_would_miss_halved_noise_at_2000_trials() -> None:
    mechanism = sgd(noise_multiplier=1.0)
    assert isinstance(mechanism, DPSGD)
    epsilon, delta = accountant.pld_epsilon(mechanism, 1e-5), 1e-5
    thresholds = np.linspace(-1, 5, 61)  # the attacker's, in clipping norms; noise of half a norm
    seen = max(
        power_of_epsilon_alone(epsilon, delta, float(norm.sf(2 * each)), float(norm.sf(2 * (each - 1))), 2000)
        for each in thresholds
    )
    assert seen < 0.01
    assert trials_for(curve_of(mechanism), *shifted(2.0)) < 500
