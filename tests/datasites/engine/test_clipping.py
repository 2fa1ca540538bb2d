import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasites.engine.clipping import LARGEST_BATCH, clipped_sum
from datasites.engine.grid import grid_of
from policies.errors import DatasiteError, UnsupportedMechanism
from policies.privacy.mechanisms import STABILITY

ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
NORMS = st.floats(1e-12, 1000)
WAYS = st.sampled_from([0.0, STABILITY])


def clipped(
    rows: torch.Tensor, norm: float, present: torch.Tensor | None = None, stability: float = 0.0
) -> torch.Tensor:
    present = torch.ones(len(rows), dtype=torch.bool) if present is None else present
    parts = [rows[:, :2], rows[:, 2:].reshape(len(rows), -1, 1)]
    return clipped_sum(parts, present, clipping_norm=norm, stability=stability)


def exact_norm_squared(units: torch.Tensor) -> int:
    return sum(int(k) ** 2 for k in units.tolist())


@settings(deadline=None)
@given(st.lists(st.lists(ANY_FLOAT, min_size=5, max_size=5), min_size=1, max_size=6), NORMS, WAYS)
def test_adding_a_record_changes_the_sum_by_at_most_the_clipping_norm(
    rows: list[list[float]], norm: float, stability: float
) -> None:
    gradients = torch.tensor(rows, dtype=torch.float32)
    # The other records stay, the last one is there or not; in integers, so that nothing rounds in the test either.
    without = clipped(gradients[:-1], norm, stability=stability) if len(rows) > 1 else 0
    change = clipped(gradients, norm, stability=stability) - without
    assert (change == change.round()).all()
    bound = math.floor((norm / grid_of(norm)) ** 2)  # the quotient is exact, by a power of two
    assert exact_norm_squared(change) <= bound


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), NORMS, st.floats(-30, 30), WAYS)
def test_clipped_norm_is_bounded_for_wide_gradients(seed: int, norm: float, size: float, stability: float) -> None:
    gradient = torch.randn(1, 30_000, generator=torch.Generator().manual_seed(seed)) * 2.0**size
    assert exact_norm_squared(clipped(gradient, norm, stability=stability)) <= (norm / grid_of(norm)) ** 2


@pytest.mark.parametrize("size", [1e-4, 0.01, 1.0, 1e4])
def test_automatic_clipping_gives_every_gradient_nearly_the_clipping_norm(size: float) -> None:
    # 5 equal coordinates of a vector of norm s: s / (s + 0.01) of the clipping norm, 1/√5 of that in each.
    units = clipped(torch.full((1, 5), size * 5**-0.5), 2.0, stability=STABILITY)
    expected = 2.0 * size / (size + 0.01) * 5**-0.5 / grid_of(2.0)
    assert units.tolist() == pytest.approx([expected] * 5, rel=2e-6, abs=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_automatic_clipping_leaves_out_what_is_not_finite_and_a_gradient_of_zero_stays(bad: float) -> None:
    gradients = torch.tensor([[0.0] * 5, [1.0] * 5, [1.0, 1.0, bad, 1.0, 1.0]])
    units = clipped(gradients, 1.0, stability=STABILITY)
    assert torch.equal(units, clipped(gradients[1:2], 1.0, stability=STABILITY))
    assert torch.isfinite(units).all()


@pytest.mark.parametrize("size", [1.0 - 1e-7, 1.0, 1.0 + 1e-7, 1.0 + 1e-5])
def test_gradients_at_the_bound_stay_below_it(size: float) -> None:
    for seed in range(50):
        gradient = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gradient = (gradient / gradient.norm() * size).to(torch.float32)
        assert exact_norm_squared(clipped(gradient, 1.0)) <= 2**40


@pytest.mark.parametrize("norm", [1e-12, 1e-3, 0.7, 1.0, 1.5, 1000.0])
def test_the_grid_is_a_power_of_two_near_a_millionth_of_the_norm(norm: float) -> None:
    grid = grid_of(norm)
    assert math.frexp(grid)[0] == 0.5
    assert 2**20 <= norm / grid < 2**21


@pytest.mark.parametrize("norm", [0.0, 1e-13, math.nan])
def test_a_norm_that_float32_cannot_serve_is_refused(norm: float) -> None:
    with pytest.raises(UnsupportedMechanism, match="clipping_norm"):
        grid_of(norm)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_record_that_is_not_finite_contributes_exactly_zero(bad: float) -> None:
    gradients = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    without = clipped(gradients[[0, 1, 3]], 1.0)
    gradients[2, 4] = bad
    assert torch.equal(clipped(gradients, 1.0), without)


@pytest.mark.parametrize("size", [1e-30, 1e-8, 1.0, 1e30, torch.finfo(torch.float32).max])
def test_finite_records_of_any_size_are_clipped_and_count(size: float) -> None:
    # 5 equal coordinates of a vector of norm 1 are 1/√5 each, and what is smaller than the grid is cut off to 0.
    units = clipped(torch.full((1, 5), size), 1.0)
    expected = math.floor(min(size, 5**-0.5) * 2**20)
    assert torch.allclose(units, torch.full((5,), float(expected), dtype=torch.float64), rtol=2e-6)


def test_absent_rows_contribute_exactly_zero() -> None:
    gradients = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    present = torch.tensor([True, False, True, False, False, True])
    assert torch.equal(clipped(gradients, 1.0, present), clipped(gradients[present], 1.0))
    assert (clipped(gradients, 1.0, torch.zeros(6, dtype=torch.bool)) == 0).all()


@pytest.mark.parametrize("width", [5, 300_000])
def test_the_sum_does_not_depend_on_order_or_blocks(width: int) -> None:
    gradients = torch.randn(9, width, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    parts = sum(clipped(gradients[rows], 0.7) for rows in ([0, 1, 2], [3], [4, 5, 6, 7, 8]))
    assert torch.equal(clipped(gradients, 0.7), clipped(gradients[order], 0.7))
    assert torch.equal(clipped(gradients, 0.7), parts)


def test_clipping_is_what_the_paper_says() -> None:
    gradients = torch.randn(64, 40, generator=torch.Generator().manual_seed(0)) / 6
    factors = (0.9 / gradients.norm(dim=1)).clamp(max=1)
    expected = (gradients * factors[:, None]).sum(0).to(torch.float64)
    assert torch.allclose(clipped(gradients, 0.9) * grid_of(0.9), expected, atol=1e-4)


def test_the_largest_batch_cannot_overflow() -> None:
    gradients = torch.zeros(LARGEST_BATCH, 5)
    gradients[:, 0] = 1e9
    largest = 2.0 * (1 - 2.0**-24)  # almost 2^21 units of its grid
    total = clipped(gradients, largest)[0].item()
    assert total == pytest.approx(LARGEST_BATCH * 2**21, rel=1e-5)


def test_a_batch_above_the_largest_is_refused() -> None:
    with pytest.raises(DatasiteError, match="parts"):
        clipped(torch.zeros(LARGEST_BATCH + 1, 5), 1.0)
