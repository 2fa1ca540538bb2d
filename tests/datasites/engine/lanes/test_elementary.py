"""Elementary functions of lanes against float64, in units in the last place, and where they have no ordinary value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.instructions import LANES
from tests.datasites.engine.lanes.models import Single

Floats = npt.NDArray[np.float32]
ROWS = 2000  # of sixteen numbers

_erf = np.vectorize(math.erf, otypes=[np.float64])
_expm1: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] = np.expm1


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


# Function, range of its arguments, largest error in units in the last place.
EXACT: dict[str, tuple[Callable[..., npt.NDArray[np.float64]], tuple[float, float], float]] = {
    "exp": (np.exp, (-87.0, 88.6), 1.5),
    "expm1": (_expm1, (-80.0, 80.0), 3.0),
    "log": (np.log, (1e-37, 3e38), 1.5),
    "log1p": (np.log1p, (-0.9999, 1e30), 3.0),
    "sqrt": (np.sqrt, (0.0, 3e38), 0.5),
    "tanh": (np.tanh, (-20.0, 20.0), 2.5),
    "sigmoid": (_sigmoid, (-80.0, 80.0), 3.0),
    "erf": (_erf, (-6.0, 6.0), 1.5),
    "sin": (np.sin, (-1e5, 1e5), 1.5),
    "cos": (np.cos, (-1e5, 1e5), 1.5),
    "atan": (np.arctan, (-3e38, 3e38), 2.5),
}


def arguments(low: float, high: float) -> Floats:
    """Even over the range, and over its powers of ten on both sides of zero."""
    rng = np.random.default_rng(0)
    even = rng.uniform(low, high, ROWS * LANES // 2)
    sizes = 10.0 ** rng.uniform(-30, math.log10(max(abs(low), high)), ROWS * LANES // 2)
    signs = rng.choice([-1.0, 1.0], len(sizes)) if low < 0 else 1.0
    return np.concatenate([even, np.clip(sizes * signs, low, high)]).astype(np.float32).reshape(ROWS, LANES)


@pytest.mark.parametrize("name", EXACT)
def test_a_function_is_within_units_in_the_last_place(name: str, kernels: Kernels) -> None:
    function, (low, high), most = EXACT[name]
    given = arguments(low, high)
    found = Single(kernels, name, ROWS, [], n=ROWS, sx=LANES)(given)
    expected = function(given.astype(np.float64))
    ordinary = np.abs(expected) > 2.0**-120
    units = np.abs(found - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert units[ordinary].max() <= most, (float(units[ordinary].max()), given[ordinary][units[ordinary].argmax()])
    assert np.abs(found - expected)[~ordinary].max(initial=0) < 2.0**-119


@pytest.fixture
def flushed() -> Iterator[None]:
    """As in jobs, numbers near zero are zero."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 3e38, -3e38, 1e-45, -1e-45, 88.8, -88.0, -104.0, 1e10, -1e10],
    np.float32,
)
FLUSHED = np.where(np.abs(SPECIAL) < 2.0**-126, np.copysign(0.0, SPECIAL), SPECIAL)  # denormals are zero in jobs


@pytest.mark.usefixtures("flushed")
@pytest.mark.parametrize("name", EXACT)
def test_what_has_no_ordinary_value_is_as_in_float64(name: str, kernels: Kernels) -> None:
    function, _, most = EXACT[name]
    found = Single(kernels, name, 1, [], n=1, sx=LANES)(SPECIAL.reshape(1, LANES))[0]
    with np.errstate(all="ignore"):
        expected = function(FLUSHED.astype(np.float64)).astype(np.float32)
        units = np.abs(found - expected) / np.spacing(np.maximum(np.abs(expected), np.float32(1e-37)))
    for value, one, other, off in zip(SPECIAL, found, expected, units, strict=True):
        both_nan, alike = math.isnan(one) and math.isnan(other), one == other
        if name in ("sin", "cos") and 1e10 < abs(value) < math.inf:  # two neighbours there are many turns apart
            assert abs(one) <= 1
            continue
        assert both_nan or alike or off <= most or abs(one - other) < 2e-38, (name, value, one, other)


def test_a_lane_has_its_value_wherever_it_stands(kernels: Kernels) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([SPECIAL, rng.normal(0, 10, LANES).astype(np.float32)])
    for name in EXACT:
        run = Single(kernels, name, 1, [], n=1, sx=LANES)
        for value in values:
            alone = run(np.full((1, LANES), value, np.float32))[0].view(np.int32)
            assert len(set(alone.tolist())) == 1
            company = rng.permutation(np.resize(values, LANES - 1))
            for place in (0, 7, 15):
                row = np.insert(company, place, value).astype(np.float32)
                assert run(row.reshape(1, LANES))[0].view(np.int32)[place] == alone[0], (name, value, place)


def compared(values: Floats, name: str, kernels: Kernels) -> Floats:
    """name(x, z) with x the values and z the values in another order."""
    rows = len(values)
    record = np.concatenate([values, np.roll(values, 1, axis=0)])
    result: Floats = Single(kernels, name, 2 * rows, [], n=rows, sx=LANES, z=rows * LANES, sz=LANES)(record)[:rows]
    return result


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "less", "at_most", "equal", "unequal"])
def test_arithmetic_of_two_numbers_is_that_of_ieee_754(name: str, kernels: Kernels) -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([np.tile(SPECIAL, (4, 1)), rng.normal(0, 1, (60, LANES))]).astype(np.float32)
    values[1] = rng.permutation(values[1])
    values = np.where(np.abs(values) < 2.0**-126, np.float32(0), values).astype(np.float32)
    operation = {"at_most": np.less_equal, "unequal": np.not_equal}.get(name) or getattr(np, name)
    with np.errstate(all="ignore"):
        expected = operation(values, np.roll(values, 1, axis=0)).astype(np.float32)
    found = compared(values, name, kernels)
    tiny = np.abs(expected) < 2.0**-126
    assert np.array_equal(found[~tiny], expected[~tiny], equal_nan=True)
