"""A round's weights as whole numbers: close to the weights, small on the wire, a function of the weights alone."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.errors import UnsupportedMechanism, WeightsRefused
from policies.privacy.accountant import charge_for, resolve
from policies.privacy.mechanisms import DPSGD, as_dict, mechanism_from
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.compression import (
    DOUBLINGS,
    NOT_FINITE,
    PACKED,
    REACH,
    STEPS,
    check_compressed,
    compress,
    compressed_shapes,
    grid_step,
    halved,
    noise_of_round,
    packed,
    restore,
    unpacked,
    widened,
)
from policies.release.plans import release_shapes
from policies.release.tensors import check_tensors
from tests.policies.plan_factories import SCHEMA, plan_of, training

PATIENTS = 4000
KINDS = sorted(STEPS)


def made(kind: str = "int8", **changes: Any) -> DPSGD:
    return replace(training(epsilon=None, noise_multiplier=1.0), compression=kind, **changes)


def weights(seed: int, deviation: float, size: int = 11_000) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where a round began, and where noise of a deviation has put it."""
    generator = np.random.default_rng(seed)
    start = {
        "layer.weight": generator.normal(0, 0.1, (size,)).astype(np.float32),
        "layer.bias": np.zeros(3, np.float32),
    }
    noise = {name: generator.normal(0, deviation, value.shape).astype(np.float32) for name, value in start.items()}
    return start, {name: start[name] + noise[name] for name in start}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_restored_is_within_half_a_step_of_the_weights(kind: str) -> None:
    mechanism = made(kind)
    step = grid_step(mechanism, PATIENTS)
    start, noisy = weights(1, noise_of_round(mechanism, PATIENTS))
    release = compress(noisy, start, mechanism, PATIENTS)
    back = restore(release, start, mechanism, PATIENTS)
    assert release[DOUBLINGS].tolist() == [0, 0]
    for name in start:
        assert np.abs(back[name] - noisy[name]).max() <= step / 2 * (1 + 1e-4)
        assert back[name].dtype == np.float32
    # A uniform error of one step has a variance of step² / 12, beside the noise's: 0.5 % and 8.3 %.
    error = (back["layer.weight"].astype(np.float64) - noisy["layer.weight"]).var()
    assert error == pytest.approx(step**2 / 12, rel=0.05)


@pytest.mark.parametrize(("kind", "times"), [("int8", 7), ("int4", 11)])
def test_zstd_makes_little_of_the_whole_numbers(kind: str, times: int) -> None:
    mechanism = made(kind)
    start, noisy = weights(2, noise_of_round(mechanism, PATIENTS))
    release = compress(noisy, start, mechanism, PATIENTS)["layer.weight"]
    packed = len(pa.compress(release.tobytes(), codec="zstd", asbytes=True))
    assert 4 * release.size / packed > times


@pytest.mark.parametrize("kind", KINDS)
def test_what_moved_far_is_rounded_more_coarsely_and_never_cut_off(kind: str) -> None:
    mechanism = made(kind)
    step = grid_step(mechanism, PATIENTS)
    start = {"far": np.zeros(4, np.float32), "near": np.zeros(2, np.float32)}
    far = np.array([1000.0, -3.0, 0.0, 500.0], np.float32) * np.float32(step)
    noisy = {"far": far, "near": np.array([step, -2 * step], np.float32)}
    release = compress(noisy, start, mechanism, PATIENTS)
    doubled = math.ceil(math.log2(1000 / REACH[kind]))
    assert release[DOUBLINGS].tolist() == [doubled, 0]
    back = restore(release, start, mechanism, PATIENTS)
    assert np.abs(back["far"] - far).max() <= step * 2**doubled / 2
    assert back["near"] == pytest.approx(noisy["near"], rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(KINDS),
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=6),
    st.floats(1e-3, 1e3),
)
def test_no_values_make_it_raise_or_warn_and_shapes_are_the_planned_ones(
    kind: str, values: list[float], multiplier: float
) -> None:
    mechanism = made(kind, noise_multiplier=multiplier)
    noisy = {"layer.weight": np.array(values, np.float32)}
    start = {"layer.weight": np.zeros(len(values), np.float32)}
    release = compress(noisy, start, mechanism, PATIENTS)
    check_tensors(release, compressed_shapes([("layer.weight", (len(values),))]), finite=True)
    assert np.abs(release["layer.weight"]).max() <= REACH[kind]
    if not np.isfinite(noisy["layer.weight"]).all():
        assert release[DOUBLINGS].tolist() == [NOT_FINITE]
        with pytest.raises(WeightsRefused, match="smaller learning_rate"):
            check_compressed("rural", release)
    assert np.isfinite(restore(release, start, mechanism, PATIENTS)["layer.weight"]).all()


@pytest.mark.parametrize("doubled", [257, 2**62, -2, -(2**63)])
def test_a_grid_that_nobody_has_is_refused_and_reads_as_finite_numbers(doubled: int) -> None:
    release = {"w": np.full(3, 127, np.int8), DOUBLINGS: np.array([doubled])}
    with pytest.raises(WeightsRefused, match="Tell its owner"):
        check_compressed("rural", release)


def test_it_is_made_of_noisy_weights_and_public_figures_alone() -> None:
    """So a release tells nothing that the weights would not: whatever is computed from them costs nothing more."""
    assert list(inspect.signature(compress).parameters) == [
        "weights",
        "start",
        "mechanism",
        "training_patients",
        "round",
    ]
    start, noisy = weights(3, 0.1, size=50)
    one, other = (compress(noisy, start, made(), PATIENTS) for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
    for kind in KINDS:
        assert charge_for(made(kind), 32) == charge_for(made("none"), 32)


def test_a_training_without_it_is_written_as_before() -> None:
    assert "compression" not in as_dict(made("none"))
    assert mechanism_from(as_dict(made("int4"))) == made("int4")
    assert mechanism_from(as_dict(made("none"))) == made("none")
    with pytest.raises(UnsupportedMechanism, match=r"compression='int2' is not known\. Use one of none, int8, int4"):
        made("int2")


def test_sums_that_nobody_can_open_are_not_compressed() -> None:
    parties = tuple(Party(name, key * 64, 400) for name, key in (("general", "a"), ("rural", "b")))
    secure = SecureAggregation(threshold=2, hospitals=parties)
    with pytest.raises(UnsupportedMechanism, match=r"compression='int8' and secure_aggregation.*Leave one of them out"):
        made("int8", secure_aggregation=secure)
    assert made("none", secure_aggregation=secure).secure_aggregation == secure


def test_a_plan_says_the_form_in_which_weights_leave() -> None:
    shapes = release_shapes(plan_of(replace(training(), compression="int8")), SCHEMA)
    assert shapes == {
        "layer.weight": ((2, 3), "int8"),
        "layer.bias": ((2,), "int8"),
        DOUBLINGS: ((2,), "int64"),
    }


def test_noise_needs_a_multiplier_that_was_found() -> None:
    with pytest.raises(UnsupportedMechanism, match="Resolve the mechanism first"):
        noise_of_round(training(), PATIENTS)
    assert noise_of_round(resolve(training()), PATIENTS) > 0


def test_noise_of_plain_descent_is_the_closed_form() -> None:
    mechanism = made(steps=25, learning_rate=0.5, sampling_rate=0.1, clipping_norm=2.0, noise_multiplier=1.5)
    # 25 steps of 0.5 · 1.5 · 2 / (0.1 · 4000) add up by √25.
    assert noise_of_round(mechanism, PATIENTS) == pytest.approx(0.5 * 1.5 * 2 / 400 * 5)


def test_float16_carries_weights_only_where_the_noise_hides_what_it_rounds() -> None:
    sent = {"w": np.array([0.1, -1.7, 3e-5], np.float32)}
    halves = halved(sent, 0.05)
    assert halves is not None
    assert np.abs(widened(halves)["w"] - sent["w"]).max() <= 0.125 * 0.05
    assert halved(sent, 1e-5) is None
    assert halved({"w": np.array([70_000.0], np.float32)}, 10.0) is None  # beyond float16
    again = halved(widened(halves), 1e-30)
    assert again is not None
    assert (again["w"] == halves["w"]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_release_travels_as_one_array_and_comes_out_the_same(kind: str, size: int) -> None:
    mechanism = made(kind)
    start, noisy = weights(4, noise_of_round(mechanism, PATIENTS), size=size)
    noisy["layer.bias"] *= 1000  # doubled
    release = compress(noisy, start, mechanism, PATIENTS)
    carried = packed(release)
    assert set(carried) == {PACKED}
    back = unpacked(carried, {name: value.shape for name, value in start.items()})
    assert set(back) == set(release)
    for name, value in release.items():
        assert back[name].dtype == value.dtype
        assert (back[name] == value).all()
    not_finite = compress({name: value * np.nan for name, value in noisy.items()}, start, mechanism, PATIENTS)
    shapes = {name: value.shape for name, value in start.items()}
    assert unpacked(packed(not_finite), shapes)[DOUBLINGS].tolist() == [NOT_FINITE, NOT_FINITE]
    assert set(unpacked(release, shapes)) == set(release)


@pytest.mark.parametrize(
    "carried",
    [
        np.zeros(0, np.int8),
        np.zeros(8, np.int8),
        np.zeros(10, np.int8),
        np.zeros((1, 9), np.int8),
        np.zeros(9, np.float32),
        np.array([1, *[0] * 8], np.int8),
    ],
)
def test_bytes_that_are_not_of_these_weights_are_refused(carried: Any) -> None:
    with pytest.raises(WeightsRefused, match="of 4 numbers is other bytes"):
        unpacked({PACKED: carried}, {"a": (2, 1), "b": (2,)})


def test_the_grid_of_a_round_follows_the_learning_rate_of_that_round() -> None:
    """A grid for the first round's rate would round all of the last one's steps away."""
    mechanism = made(schedule="cosine", rounds=10)
    first, last = (grid_step(mechanism, PATIENTS, number) for number in (1, 10))
    assert last < first / 20
    start, noisy = weights(5, last / STEPS["int8"])
    release = compress(noisy, start, mechanism, PATIENTS, 10)
    back = restore(release, start, mechanism, PATIENTS, 10)
    assert np.abs(back["layer.weight"] - noisy["layer.weight"]).max() <= last
    assert np.abs(release["layer.weight"]).max() > 10
