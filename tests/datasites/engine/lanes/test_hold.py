"""What a record contributes is a function of that record alone, to the bit, whatever stands beside it.

S(batch) - S(batch without r) = S({r}) in whole numbers, with weights, company, order and places chosen against it. That
the test can fail is shown on torch's own kernels, which round a record by its place.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datasites.engine.clipping import clipped_sum
from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.sums import LaneSums
from datasites.engine.training import record_gradients
from policies.privacy.mechanisms import STABILITY
from tests.datasites.engine.lanes.models import HOSTILE, LOGITS, MODELS, graph_of, program_of, weights_of

Floats = npt.NDArray[np.float32]
SIZES = (2, 3, 15, 16, 17, 33, 64, 80)
NORMS = (1.0, 0.37, 1e-4, 900.0)
WAYS = (0.0, STABILITY)  # clipping what is longer, and automatic clipping
DRAWS = 12  # of weights, records and company, for each model
SPOILT = np.array([np.nan, np.inf, -np.inf, 1e-42, 3e38, -1e30], np.float32)


def hostile_weights(rng: np.random.Generator, weights: Floats) -> Floats:
    """As they are, of mixed sizes, enormous, or from 10⁻³⁰ to 10³⁰."""
    count, kind = len(weights), rng.integers(4)
    with np.errstate(over="ignore"):
        if kind == 1:
            return (weights * np.exp(rng.normal(0, 3, count))).astype(np.float32)
        if kind == 2:
            return (rng.normal(0, 1, count) * 10.0 ** rng.uniform(-3, 12)).astype(np.float32)
        if kind == 3:
            return (rng.normal(0, 1, count) * 10.0 ** rng.integers(-30, 30, count)).astype(np.float32)
    return weights


def hostile_records(rng: np.random.Generator, count: int, features: int) -> Floats:
    """Ordinary, with zeros, of all sizes, or with NaN, infinities, denormal and enormous numbers among them."""
    inputs, kind = rng.uniform(-1, 1, (count, features)).astype(np.float32), rng.integers(5)
    if kind == 0:
        inputs[rng.random(inputs.shape) < 0.1] = 0
    elif kind == 1:
        with np.errstate(over="ignore"):
            inputs *= (10.0 ** rng.uniform(-40, 38, (count, 1))).astype(np.float32)
    elif kind == 2:
        spoilt = rng.random(inputs.shape) < 0.05
        inputs[spoilt] = rng.choice(SPOILT, int(spoilt.sum()))
    return inputs


@pytest.mark.parametrize("name", [*MODELS, *HOSTILE])
def test_company_order_and_place_change_no_bit_of_a_record(name: str, kernels: Kernels) -> None:
    checked, _ = program_of(name)
    rng, features, base = np.random.default_rng(5), checked.program.features, weights_of(name)
    ways = [(norm, stability) for norm in NORMS for stability in WAYS]
    engines = [LaneSums(checked, kernels, norm, most=max(SIZES), stability=stability) for norm, stability in ways]
    counted = 0
    for _ in range(DRAWS):
        way = int(rng.integers(len(ways)))
        norm, sums = ways[way][0], engines[way]
        sums.weights[:] = hostile_weights(rng, base)
        count = int(rng.choice(SIZES))
        inputs, labels = hostile_records(rng, count, features), rng.integers(0, 2, count).astype(np.float32)
        rows, record = rng.permutation(count), int(rng.integers(count))

        def total(places: npt.NDArray[np.int64], of: LaneSums = sums, x: Floats = inputs, y: Floats = labels) -> object:
            return of.sum(x, y, places).astype(np.int64)

        whole, alone = total(rows), total(np.array([record]))
        others = total(rng.permutation(rows[rows != record]))
        assert np.array_equal(whole - others, alone), (name, count)
        assert np.array_equal(total(rng.permutation(rows)), whole)
        # The norm, in exact fractions: all are whole numbers of a grid that is a power of two.
        squares = sum(int(value) ** 2 for value in alone.tolist())
        assert squares <= (norm / grid_of(norm)) ** 2
        counted += squares > 0
    assert counted > 0


def length(units: npt.NDArray[np.int64], norm: float) -> float:
    """Of a contribution, over the clipping norm."""
    return math.sqrt(sum(int(unit) ** 2 for unit in units.tolist())) * grid_of(norm) / norm


@pytest.mark.parametrize("stability", WAYS)
@pytest.mark.parametrize("norm", [1e-12, *NORMS])
def test_a_huge_factor_beside_a_tiny_one_stays_within_the_clipping_norm(
    norm: float, stability: float, kernels: Kernels
) -> None:
    # The second layer's gradient is δ ⊗ a with |δ| = 10³⁵ and |a| = 10⁻³⁵: ordinary, but δ times the factor is not.
    checked, _ = program_of("three layers without a bias")
    sums = LaneSums(checked, kernels, norm, most=16, stability=stability)
    inputs, labels = np.ones((3, 10), np.float32), np.zeros(3, np.float32)
    for size in (10.0**power for power in range(0, 37, 3)):
        sums.weights[: 80 + 64], sums.weights[80 + 64 :] = 1 / size, size
        assert length(sums.sum(inputs, labels, np.array([0])).astype(np.int64), norm) <= 1, size


@pytest.mark.parametrize("stability", WAYS)
@pytest.mark.parametrize("norm", NORMS)
def test_products_that_cancel_stay_within_the_clipping_norm(norm: float, stability: float, kernels: Kernels) -> None:
    # Eight products add up to zero, or nearly so; float32 is left with what it rounded, which is far above the norm.
    checked, _ = program_of("cancelling")
    sums = LaneSums(checked, kernels, norm, most=16, stability=stability)
    sums.weights[:] = 0
    rng, longest = np.random.default_rng(8), 0.0
    for draw in range(50):
        record = np.repeat(rng.normal(0, 1, (4, 32)), 2, axis=0)
        if draw % 2:
            record *= 1 + rng.normal(0, 1e-7, record.shape)
        inputs = (record * 10.0 ** rng.uniform(-4, 4)).astype(np.float32).reshape(1, -1)
        found = length(sums.sum(inputs, np.zeros(1, np.float32), np.array([0])).astype(np.int64), norm)
        assert found <= 1, draw
        longest = max(longest, found)
    assert longest > 1e-3  # it is that remainder that was clipped


@pytest.mark.parametrize("stability", WAYS)
@pytest.mark.parametrize("name", ["logarithm", "two layers", "LSTM"])
def test_a_record_with_anything_not_finite_contributes_zero(name: str, stability: float, kernels: Kernels) -> None:
    checked, _ = program_of(name)
    features = checked.program.features
    sums = LaneSums(checked, kernels, 1.0, most=16, stability=stability)
    sums.weights[:] = weights_of(name)
    inputs = np.full((len(SPOILT) + 1, features), 0.5, np.float32)
    for row, value in enumerate(SPOILT, start=1):
        inputs[row, 0] = value
    labels = np.ones(len(inputs), np.float32)
    assert sums.sum(inputs, labels, np.array([0])).any()
    for row in (1, 2, 3):
        assert not sums.sum(inputs, labels, np.array([row])).any(), row
    for row in range(1, len(inputs)):
        together = sums.sum(inputs, labels, np.array([0, row])).astype(np.int64)
        alone = sums.sum(inputs, labels, np.array([row])).astype(np.int64)
        assert np.array_equal(together - alone, sums.sum(inputs, labels, np.array([0])))


@pytest.mark.parametrize("name", ["two layers", "LSTM", "transformer"])
def test_automatic_clipping_gives_every_record_nearly_the_clipping_norm(name: str, kernels: Kernels) -> None:
    checked, _ = program_of(name)
    rng, features = np.random.default_rng(6), checked.program.features
    unclipped = LaneSums(checked, kernels, 900.0, most=16)  # longer than any of these gradients
    clipped = LaneSums(checked, kernels, 4.0, most=16, stability=STABILITY)
    lengths = []
    for shrink in (1.0, 1e-2, 1e-3):
        unclipped.weights[:] = clipped.weights[:] = weights_of(name) * np.float32(shrink)
        inputs = rng.uniform(-1, 1, (8, features)).astype(np.float32)
        for record in range(8):
            of_record = (inputs, np.ones(8, np.float32), np.array([record]))
            before = length(unclipped.sum(*of_record).astype(np.int64), 900.0) * 900.0
            found = length(clipped.sum(*of_record).astype(np.int64), 4.0)
            # Both are of whole numbers, the one of a grid of 900 / 2^20 to each of its numbers.
            assert found == pytest.approx(before / (before + STABILITY), abs=0.02)
            assert found < 1
            lengths.append(before)
    assert max(lengths) < 4  # norm clipping would have left them as they are


@pytest.mark.parametrize("name", ["two layers", "three layers", "LSTM", "transformer", "picture"])
def test_parts_add_up_to_the_same_whole_numbers(name: str, kernels: Kernels) -> None:
    checked, _ = program_of(name)
    rng, count = np.random.default_rng(9), 77
    inputs = rng.uniform(-1, 1, (count, checked.program.features)).astype(np.float32)
    labels, rows = rng.integers(0, 2, count).astype(np.float32), rng.permutation(count)
    totals = []
    for together in (1, 2, 3, 5):
        sums = LaneSums(checked, kernels, 1.0, most=count, together=together)
        sums.weights[:] = weights_of(name)
        assert sums.most == together * 16
        for places in (rows, rows[:3], rows):  # what a former sum left behind is not added
            total = sums.sum(inputs, labels, places).copy()
        totals.append(total)
    assert totals[0].any()
    assert all(np.array_equal(total, totals[0]) for total in totals)


def test_what_a_former_record_left_behind_is_not_read(kernels: Kernels) -> None:
    checked, _ = program_of("GRU")
    rng = np.random.default_rng(2)
    inputs = rng.uniform(-1, 1, (64, 6)).astype(np.float32)
    labels = rng.integers(0, 2, 64).astype(np.float32)
    sums = LaneSums(checked, kernels, 1.0, most=64)
    sums.weights[:] = weights_of("GRU")
    before = sums.sum(inputs, labels, np.array([3])).copy()
    for spoilt in SPOILT:
        sums.sum(np.full_like(inputs, spoilt), labels, np.arange(64))
        sums._parts[0].memory[sums.program.record + 6 * 16 + 16 :] = spoilt
        assert np.array_equal(sums.sum(inputs, labels, np.array([3])), before)


def test_more_records_than_32_bits_hold_are_added_in_parts(kernels: Kernels) -> None:
    checked, _ = program_of("logistic regression")
    rng = np.random.default_rng(3)
    inputs = rng.uniform(-1, 1, (5000, 10)).astype(np.float32)
    labels = np.ones(5000, np.float32)
    sums = LaneSums(checked, kernels, 1e-4)
    # All gradients point the same way and are clipped, so that the sum leaves 32 bits.
    inputs[:, 0], rows = 100.0, np.arange(5000)
    whole = sums.sum(inputs, labels, rows)
    parts = sum(sums.sum(inputs, labels, rows[i : i + 500]).astype(np.int64) for i in range(0, 5000, 500))
    assert np.array_equal(whole, parts)
    assert np.abs(whole).max() > 2**31


def test_torchs_kernels_fail_where_the_lanes_hold() -> None:
    graph, rng = graph_of("shout"), np.random.default_rng(4)
    gradients = record_gradients(forward(graph), LOGITS)
    parts = torch.split(torch.from_numpy(weights_of("shout")), [math.prod(p.shape) for p in graph.parameters])
    weights = {p.name: part.view(p.shape) for p, part in zip(graph.parameters, parts, strict=True)}
    differ = 0
    for _ in range(20):
        count = int(rng.choice(SIZES))
        inputs = torch.from_numpy(rng.uniform(-1, 1, (count, 10)).astype(np.float32))
        labels = torch.from_numpy(rng.integers(0, 2, count))

        def total(rows: torch.Tensor, x: torch.Tensor = inputs, y: torch.Tensor = labels) -> torch.Tensor:
            found, _ = gradients(weights, x[rows], y[rows])
            return clipped_sum(list(found.values()), torch.ones(len(rows), dtype=torch.bool), clipping_norm=1.0)

        record, rows = int(rng.integers(count)), torch.from_numpy(rng.permutation(count))
        rest = rows[rows != record]
        differ += not torch.equal(total(rows) - total(rest), total(torch.tensor([record])))
    assert differ > 0  # on a processor whose library rounds alike in every row this says so
