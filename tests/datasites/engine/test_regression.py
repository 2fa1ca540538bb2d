"""The engine of regressions: what one patient moves, which noise there is, and what it costs."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from datasites.engine import noisy_sums
from datasites.engine.matrix import in_groups
from datasites.engine.noise import NoiseSource
from datasites.engine.noisy_sums import Bounded, noisy_sum, whole_units
from datasites.engine.regression import regression_sums
from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import charge_for, epsilon_of, pld_epsilon, renyi_divergence, resolve
from policies.privacy.mechanisms import Mechanism, as_dict, mechanism_from
from policies.privacy.regression import Regression, parts_of
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.schema.columns import Column
from policies.schema.design import design_of, sum_shapes
from policies.schema.schemas import Schema
from policies.schema.summed_regression import weighed

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    columns=(
        Column(name="x", kind="real", minimum=-2, maximum=2),
        Column(name="ward", kind="category", categories=("a", "b", "c")),
        Column(name="y", kind="real", minimum=-5, maximum=5),
        Column(name="sick", kind="boolean"),
        Column(name="visits", kind="integer", minimum=0, maximum=12),
        Column(name="unused", kind="real", minimum=0, maximum=1),
    ),
)
OUTCOMES = {"gaussian": "y", "binomial": "sick", "poisson": "visits"}
QUIET = 1e-6


def declared(family: str = "gaussian", **changes: object) -> Regression:
    facts = {"outcome": OUTCOMES[family], "terms": ("x", "ward"), "family": family, "noise_multiplier": 1.0}
    return Regression(**{**facts, **changes})  # type: ignore[arg-type]


def rows(patients: int, each: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), each)
    size = len(codes)
    x, ward = np.clip(rng.normal(0.5, 0.5, size), -2, 2), rng.integers(0, 3, size)
    linear = 0.4 + 0.8 * x - 0.5 * (ward == 1)
    y = np.clip(linear + rng.normal(0, 0.5, size), -5, 5)
    sick, visits = rng.random(size) < 1 / (1 + np.exp(-linear)), np.minimum(rng.poisson(np.exp(linear)), 12)
    return np.column_stack([codes, codes % 4 == 0, x, ward, y, sick, visits, rng.random(size)])


def sums(matrix: np.ndarray, family: str = "gaussian", key: int = 0, **changes: object) -> dict[str, np.ndarray]:
    return regression_sums(declared(family, **changes), SCHEMA, matrix, NoiseSource(bytes([key]) * 32))


def coefficients(released: dict[str, np.ndarray]) -> np.ndarray:
    return released["start"] + released["turn"].T @ np.linalg.solve(released["information"], released["score"])


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("size", [1, 5, 40])
def test_one_row_moves_a_sum_by_no_more_than_its_sensitivity_whatever_it_is(size: int, squares: bool) -> None:
    bounded = Bounded(size, norm=3.0, multiplier=1.0, squares=squares)
    rng = np.random.default_rng(size)
    wild = rng.normal(size=(200, size)) * 10.0 ** rng.uniform(-9, 9, (200, 1))
    wild[:5] = [[np.nan], [np.inf], [-np.inf], [1e308], [3.0]]
    for row in wild[:, None, :]:
        units = whole_units(row, bounded)
        assert (units == np.rint(units)).all()
        moved = np.linalg.norm(units.T @ units) if squares else np.linalg.norm(units)
        assert moved <= bounded.sensitivity
    assert bounded.sensitivity <= (1 / bounded.grid + math.sqrt(size)) ** (2 if squares else 1)  # and not much more


def test_the_noise_of_squares_is_that_of_a_gaussian_mechanism_in_frobenius_norm() -> None:
    bounded = Bounded(3, norm=2.0, multiplier=1.5, squares=True)
    drawn = np.array([noisy_sum(bounded, [], NoiseSource(number.to_bytes(32, "big"))) for number in range(3000)])
    assert (drawn == np.swapaxes(drawn, 1, 2)).all()
    assert drawn[:, 0, 0].std() == pytest.approx(bounded.error, rel=0.06)
    assert drawn[:, 0, 1].std() == pytest.approx(bounded.error / math.sqrt(2), rel=0.06)
    # (diagonal, √2 · above it) has one deviation in all directions: multiplier · sensitivity.
    assert bounded.deviation == pytest.approx(1.5 * bounded.sensitivity)
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1]) < 0.07


def test_sums_are_exact_whatever_the_order_of_rows_is() -> None:
    bounded = Bounded(4, norm=2.0, multiplier=QUIET, squares=True)
    values = np.random.default_rng(0).normal(size=(5000, 4))
    one = noisy_sum(bounded, [values], NoiseSource(bytes(32)))
    other = noisy_sum(bounded, [values[::-1][:1000], values[::-1][1000:]], NoiseSource(bytes(32)))
    assert (one == other).all()


def test_every_sum_has_its_share_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Bounded] = []
    real = noisy_sums.noisy_sum
    monkeypatch.setattr(
        "datasites.engine.regression.noisy_sum",
        lambda bounded, parts, source: (made.append(bounded), real(bounded, parts, source))[1],
    )
    for family in OUTCOMES:
        made.clear()
        sums(rows(300), family, noise_multiplier=2.0)
        assert len(made) == len(parts_of(declared(family)))
        # zCDP adds up: Σ 1 / σ_k² of the parts is 1 / σ² of the whole.
        assert sum(1 / bounded.multiplier**2 for bounded in made) == pytest.approx(1 / 2.0**2)


def test_it_costs_what_one_gaussian_mechanism_costs() -> None:
    for family in OUTCOMES:
        asked = declared(family, noise_multiplier=2.0)
        assert renyi_divergence(asked, 8) == pytest.approx(8 / (2 * 2.0**2))
        assert charge_for(asked, 8).pure_epsilon_nano is None
        assert pld_epsilon(asked, 1e-5) <= epsilon_of(asked, 1e-5)
    found = resolve(declared(noise_multiplier=None, epsilon=1.0))
    assert isinstance(found, Regression)
    assert found.epsilon is None
    assert epsilon_of(found, 1e-5) <= 1.0
    assert epsilon_of(replace(found, noise_multiplier=found.noise_multiplier - 0.001), 1e-5) > 1.0  # type: ignore[operator]


def test_a_declaration_is_read_back_equal() -> None:
    asked: Mechanism = declared(outcome_range=(-2.0, 2.0))
    assert mechanism_from(as_dict(asked)) == asked
    listed = {**as_dict(asked), "terms": ["x", "ward"], "outcome_range": [-2.0, 2.0]}
    assert mechanism_from(listed) == asked


@pytest.mark.parametrize("family", OUTCOMES)
def test_without_noise_the_coefficients_are_those_of_the_family(family: str) -> None:
    released = sums(rows(40_000), family, noise_multiplier=QUIET)
    design = design_of(declared(family), SCHEMA)
    found = design.to_units @ coefficients(released) * design.outcome.scale.half
    found[0] += design.outcome.scale.middle
    # sampling errors are about 0.02
    assert found == pytest.approx([0.4, 0.8, -0.5, 0.0], abs=0.08)
    assert {name: tensor.shape for name, tensor in released.items()} == sum_shapes(declared(family), SCHEMA)


@pytest.mark.parametrize("family", OUTCOMES)
def test_whatever_stands_in_records_every_number_of_a_release_is_finite(family: str) -> None:
    wild = np.random.default_rng(0).uniform(-1e6, 1e6, (200, 8))
    wild[:, 0] = np.arange(200)
    spoilt = rows(200)
    spoilt[::2, 2:] = np.inf
    for matrix in (np.zeros((0, 8)), rows(1), wild, spoilt):
        for noise in (QUIET, 1.0, 1000.0):
            released = sums(matrix, family, noise_multiplier=noise)
            assert all(np.isfinite(tensor).all() for tensor in released.values())


def test_one_record_of_each_patient_counts_and_only_whole_ones() -> None:
    many = sums(rows(300, each=20), noise_multiplier=QUIET)
    assert many["patients"][0] == pytest.approx(300, abs=1)
    spoilt = rows(300)
    spoilt[:100, 2] = np.nan
    spoilt[:, 7] = np.nan  # not in the regression
    assert sums(spoilt, noise_multiplier=QUIET)["patients"][0] == pytest.approx(200, abs=1)
    assert sums(in_groups(rows(300), most=1), noise_multiplier=QUIET)["patients"][0] == pytest.approx(300, abs=1)


def test_a_regression_without_its_noise_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match="has no noise multiplier yet"):
        sums(rows(10), noise_multiplier=None, epsilon=1.0)


@pytest.mark.parametrize("family", OUTCOMES)
def test_what_leaves_in_a_sum_is_made_of_the_release_and_of_nothing_else(family: str) -> None:
    """Bit by bit what arithmetic makes of the release that would leave without masks: it costs what that does."""
    parties = tuple(Party(name, key * 64, 3000) for name, key in (("a", "1"), ("b", "2")))
    roster = SecureAggregation(threshold=2, hospitals=parties)
    alone = sums(rows(3000), family, noise_multiplier=0.5)
    summed = sums(rows(3000), family, noise_multiplier=0.5, secure_aggregation=roster)
    made = weighed(declared(family, secure_aggregation=roster), SCHEMA, alone)
    assert made["told"].tolist() == [1.0]
    assert {name: value.tolist() for name, value in summed.items()} == {
        name: value.tolist() for name, value in made.items()
    }
    for matrix in (np.zeros((0, 8)), rows(1)):
        assert not any(value.any() for value in sums(matrix, family, secure_aggregation=roster).values())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("family", OUTCOMES)
def test_a_million_records_take_less_than_three_seconds(family: str) -> None:
    matrix = in_groups(rows(1_000_000), most=1)
    begin = time.process_time()
    sums(matrix, family)
    assert time.process_time() - begin < 3
