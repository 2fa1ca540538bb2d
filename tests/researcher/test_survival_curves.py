"""Curves from tables: Kaplan and Meier's where nothing is lost, and intervals, bands, medians and tests that hold."""

from __future__ import annotations

import numpy as np
import pytest

from policies.schema.survival_cells import TimeGrid
from researcher.survival_curves import SurvivalCurve, cell_variance, curves_of, growing, log_rank

HALF = 8 * np.log(2) ** (1 / 1.2)  # of the Weibull times below
QUIET = 50.0  # ε at which noise is nothing


def grid(bins: int, until: float = 10.0) -> TimeGrid:
    return TimeGrid(0.0, tuple(np.linspace(0, until, bins + 1)[1:].tolist()), exact=False)


def drawn(rng: np.random.Generator, patients: int, bins: int, *, scale: float = 8.0) -> np.ndarray:
    """A table's row of Weibull times to an event, censored uniformly, followed for ten years."""
    times, lost = scale * rng.weibull(1.2, patients), rng.uniform(0, 20, patients)
    seen, last = times <= lost, np.minimum(times, lost)
    place = np.minimum(np.searchsorted(grid(bins).ends, last), bins - 1)
    cells = np.where(last >= 10, 2 * bins, np.where(seen, place, bins + place))
    return np.bincount(cells, minlength=2 * bins + 1).astype(float)


def noise(rng: np.random.Generator, shape: tuple[int, ...], epsilon: float) -> np.ndarray:
    chance = -np.expm1(-epsilon)
    return (rng.geometric(chance, shape) - rng.geometric(chance, shape)).astype(float)


def truth(curve: SurvivalCurve) -> np.ndarray:
    return np.exp(-((curve.times / 8) ** 1.2))


def coverage(patients: int, epsilon: float, bins: int, *, hospitals: int = 1, times: int) -> dict[str, float]:
    """How often what is stated holds, and how often equal groups are called unequal."""
    rng = np.random.default_rng(patients + int(100 * epsilon) + bins)
    held: dict[str, list[float]] = {"interval": [], "band": [], "median": [], "alarms": []}
    for _ in range(times):
        tables = [
            np.stack([drawn(rng, patients, bins) for _ in "ab"]) + noise(rng, (2, 2 * bins + 1), epsilon)
            for _ in range(hospitals)
        ]
        curves = curves_of(np.sum(tables, axis=0), "ab", grid(bins), epsilon=epsilon, hospitals=hospitals)
        for curve in curves.values():
            if curve.told:
                (low, high), (least, most), true = curve.intervals, curve.band, truth(curve)
                held["interval"].append(float(np.mean((low <= true) & (true <= high))))
                held["band"].append(float(np.all((least <= true) & (true <= most))))
                held["median"].append(float(curve.median.low <= HALF <= curve.median.high))
        if (test := log_rank(list(curves.values()))) is not None:
            held["alarms"].append(float(test.p_value < 0.05))
    return {name: float(np.mean(values)) if values else np.nan for name, values in held.items()}


def test_without_noise_the_curve_is_that_of_kaplan_and_meier() -> None:
    # Six patients: events at 1, 2, 2; lost at 2 and 3; one followed to 4. S = 5/6, then 5/6 · 3/5, then as before.
    table = np.array([[0, 1, 2, 0, 0, 0, 0, 1, 1, 0, 1.0]])
    exact = TimeGrid(0.0, (0.0, 1.0, 2.0, 3.0, 4.0), exact=True)
    curve = curves_of(table, ["all"], exact, epsilon=QUIET)["all"]
    assert curve.at_risk.tolist() == [6, 6, 5, 2, 1]
    assert curve.survival[:4] == pytest.approx([1, 5 / 6, 1 / 2, 1 / 2])
    assert curve.at(2.5).value == pytest.approx(0.5)
    assert curve.median.value == 2.0


def test_without_noise_the_interval_is_greenwoods() -> None:
    rng = np.random.default_rng(0)
    curve = curves_of(drawn(rng, 20_000, 40)[None], ["all"], grid(40), epsilon=QUIET)["all"]
    exposed = curve.at_risk - curve.lost / 2
    greenwood = curve.survival * np.sqrt(np.cumsum(curve.events / (exposed * (exposed - curve.events))))
    low, high = curve.intervals
    assert (high - low)[10:] == pytest.approx(2 * 1.96 * greenwood[10:], rel=0.08)


def test_noise_widens_intervals_and_the_band_holds_the_intervals() -> None:
    row = drawn(np.random.default_rng(1), 500, 20)[None]
    sharp, blurred = (curves_of(row, ["all"], grid(20), epsilon=epsilon)["all"] for epsilon in (QUIET, 0.5))
    assert (blurred.intervals[1] - blurred.intervals[0])[5:].mean() > 1.2 * (sharp.intervals[1] - sharp.intervals[0])[
        5:
    ].mean()
    for curve in (sharp, blurred):
        assert (curve.band[0] <= curve.intervals[0] + 1e-12).all()
        assert (curve.band[1] >= curve.intervals[1] - 1e-12).all()
        assert (np.diff(curve.survival) <= 1e-12).all()


def test_nothing_is_told_where_noise_hides_who_is_at_risk() -> None:
    curve = curves_of(np.zeros((1, 41)), ["all"], grid(20), epsilon=1.0)["all"]
    assert curve.told == 0
    assert curve.median.high == np.inf
    assert np.isnan(curve.at(5.0).value)
    assert (curve.at(5.0).low, curve.at(5.0).high) == (0.0, 1.0)
    assert log_rank([curve, curve]) is None
    assert str(curve.median).startswith("not reached")


def test_a_log_rank_test_without_noise_is_mantels() -> None:
    # Groups of 4 with events at 1 and 2 against 3 and 4, everybody dies: O - E = 2 - (1/2 + 3/7 + 1/3·0…) by hand.
    first, second = np.zeros(9), np.zeros(9)
    first[[0, 1]], second[[2, 3]] = [10, 30], [20, 20]
    exact = TimeGrid(0.0, (1.0, 2.0, 3.0, 4.0), exact=True)
    curves = list(curves_of(np.stack([first, second]), "ab", exact, epsilon=QUIET).values())
    test = log_rank(curves)
    assert test is not None
    exposed, share, deaths = np.array([80, 70, 40, 20]), np.array([40 / 80, 30 / 70, 0, 0]), np.array([10, 30, 20, 20])
    beyond = 40 - (share * deaths).sum()
    variance = (deaths * share * (1 - share) * (exposed - deaths) / (exposed - 1)).sum()
    assert test.statistic == pytest.approx(beyond**2 / variance, rel=0.02)
    assert test.p_value < 1e-6


def test_groups_that_differ_are_told_apart_through_noise() -> None:
    rng = np.random.default_rng(3)
    rows = np.stack([drawn(rng, 2000, 24), drawn(rng, 2000, 24, scale=6.0)]) + noise(rng, (2, 49), 1.0)
    test = log_rank(list(curves_of(rows, "ab", grid(24), epsilon=1.0).values()))
    assert test is not None
    assert test.p_value < 0.001
    assert "p =" in str(test)


def test_values_are_pooled_until_they_never_fall() -> None:
    assert growing(np.array([1.0, 3.0, 2.0, 4.0, 0.0])).tolist() == [1.0, 2.25, 2.25, 2.25, 2.25]
    assert growing(np.zeros(0)).shape == (0,)
    assert cell_variance(1.0) == pytest.approx(np.var(noise(np.random.default_rng(0), (100_000,), 1.0)), rel=0.03)


@pytest.mark.parametrize(("patients", "epsilon", "bins"), [(100, 1.0, 12), (300, 0.3, 48), (1000, 1.0, 24)])
def test_intervals_bands_medians_and_tests_hold(patients: int, epsilon: float, bins: int) -> None:
    held = coverage(patients, epsilon, bins, times=60)
    # Of 120 curves: 93 % less three standard errors of such a count.
    for name in ("interval", "band", "median"):
        assert held[name] > 0.93 - 3 * np.sqrt(0.93 * 0.07 / 120), held
    assert not held["alarms"] > 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60), held


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("hospitals", [1, 3, 10])
@pytest.mark.parametrize("patients", [100, 300, 1000, 10_000])
def test_intervals_bands_medians_and_tests_hold_over_sizes_and_epsilon(patients: int, hospitals: int) -> None:
    for epsilon in (0.3, 1.0, 3.0):
        for bins in (12, 48):
            held = coverage(patients, epsilon, bins, hospitals=hospitals, times=250)
            for name in ("interval", "band", "median"):
                assert not held[name] < 0.93 - 3 * np.sqrt(0.93 * 0.07 / 500), (epsilon, bins, held)
            assert not held["alarms"] > 0.05 + 3 * np.sqrt(0.05 * 0.95 / 250), (epsilon, bins, held)
