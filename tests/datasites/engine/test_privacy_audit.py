"""The one-run audit: sound on the true engine, and a detector of planted faults against its simulated null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from datasites.engine.interpreter import forward
from datasites.engine.matrix import HELD_OUT, PATIENT
from datasites.engine.noise import NoiseSource
from datasites.engine.privacy_audit import (
    RECORDS_EACH,
    SIDE,
    OneRunAudit,
    Records,
    canary_records,
    one_run_audit,
    probe_graph,
    probe_schema,
    simulated_round,
)
from datasites.engine.training import record_gradients, train_round
from policies.errors import InvalidRequest
from policies.graph.graphs import Graph
from policies.privacy.accountant import epsilon_of
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema
from tests.datasites.engine.training_factories import mechanism

SMALL = mechanism(rounds=2, steps=10, sampling_rate=0.3, noise_multiplier=2.0, delta=1e-5)
PATIENTS = 500
CLEAR = 5  # deviations of the simulated null: by chance rarer than once in 10,000 audits


def engine(
    graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The real engine, with noise from the operating system."""
    return train_round(graph, declared, schema, patients, records, weights, NoiseSource.from_os())


def without_noise(
    graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return engine(graph, replace(declared, noise_multiplier=1e-9), schema, patients, records, weights)


def half_noise(
    graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    assert declared.noise_multiplier is not None
    changed = replace(declared, noise_multiplier=declared.noise_multiplier / 2)
    return engine(graph, changed, schema, patients, records, weights)


def wrong_clip(
    graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Clips at twice the norm, with noise for the one that is declared."""
    assert declared.noise_multiplier is not None
    changed = replace(
        declared, clipping_norm=2 * declared.clipping_norm, noise_multiplier=declared.noise_multiplier / 2
    )
    return engine(graph, changed, schema, patients, records, weights)


def records_as_patients(
    graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Every record is sampled by itself, as where a promise of patients is kept for records only."""
    loose = records.copy()
    loose[:, PATIENT] = np.arange(len(loose))
    return engine(graph, declared, schema, patients, loose, weights)


def everybody_in_every_step(
    graph: Graph, declared: DPSGD, schema: Schema, patients: int, records: Records, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """No sampling: divisor as declared."""
    changed = replace(declared, sampling_rate=1.0, learning_rate=declared.learning_rate / declared.sampling_rate)
    return engine(graph, changed, schema, patients, records, weights)


@cache
def of_the_engine(seed: int = 1) -> OneRunAudit:
    return one_run_audit(engine, SMALL, PATIENTS, canaries=1000, seed=seed)


def test_bound_is_below_the_accountants_epsilon_and_above_zero() -> None:
    found = of_the_engine()
    assert 0 < found.bound < epsilon_of(SMALL, 1e-5)
    assert found.canaries == 1000
    assert found.right <= found.guesses <= 1000


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_true_engine_fits_its_simulated_null(seed: int) -> None:
    assert abs(of_the_engine(seed).surplus) < CLEAR


@pytest.mark.parametrize(
    "changes", [{"momentum": 0.9}, {"optimizer": "adam"}, {"weight_decay": 0.1}, {"proximal_mu": 1.0}]
)
def test_every_optimizer_fits_its_simulated_null(changes: dict[str, object]) -> None:
    declared = replace(SMALL, learning_rate=0.1, **changes)  # type: ignore[arg-type]
    found = one_run_audit(engine, declared, PATIENTS, canaries=1000, seed=3, simulations=8)
    assert abs(found.surplus) < CLEAR
    assert found.strength > 0.3


@pytest.mark.parametrize("fault", [without_noise, half_noise, wrong_clip, records_as_patients, everybody_in_every_step])
def test_planted_faults_exceed_the_simulated_null(fault: object) -> None:
    # With noise from the operating system: half of the noise was seen to come to 10 deviations, give or take 1.
    found = one_run_audit(fault, SMALL, PATIENTS, canaries=2000, seed=1, simulations=12)  # type: ignore[arg-type]
    assert found.surplus > CLEAR
    assert found.bound > found.expected_bound


def test_a_run_without_noise_is_ruled_out_by_the_bound_alone() -> None:
    declared = replace(SMALL, noise_multiplier=8.0)
    found = one_run_audit(without_noise, declared, PATIENTS, canaries=1000, seed=1, simulations=8)
    assert found.bound > epsilon_of(declared, 1e-5)


def test_nothing_is_shown_of_a_run_that_releases_nothing() -> None:
    def nothing(*arguments: object) -> dict[str, Tensor]:
        return {"probe": torch.full((SIDE, SIDE), float("nan"))}

    found = one_run_audit(nothing, SMALL, PATIENTS, canaries=200, seed=1, simulations=3)
    assert found.strength == 0.0
    assert found.bound < 0.3


def test_every_canary_is_clipped_whatever_the_weights() -> None:
    graph, schema = probe_graph(1.5), probe_schema()
    wings = 2.0 * np.random.default_rng(0).integers(0, 2, (20, 2 * SIDE)) - 1
    rows = canary_records(wings)[::RECORDS_EACH]
    inputs, labels = torch.from_numpy(schema.inputs(rows)), torch.from_numpy(schema.targets(rows))
    gradients = record_gradients(forward(graph), "binary_cross_entropy_with_logits")
    for scale in (0.0, 1.0, 10.0):
        weights = {"probe": scale * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(1))}
        found, (losses, _) = gradients(weights, inputs, labels)
        assert torch.isfinite(losses).all()
        norms = found["probe"].flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.full((20,), 8 * 1.5))


def test_canaries_are_whole_patients() -> None:
    records = canary_records(np.ones((5, 2 * SIDE)))
    assert len(records) == 5 * RECORDS_EACH
    assert [int(np.sum(records[:, PATIENT] == code)) for code in range(5)] == [RECORDS_EACH] * 5
    assert not records[:, HELD_OUT].any()


def test_simulation_has_the_declared_noise_and_signal() -> None:
    # One step over nobody: W = -lr · noise / expected, of standard deviation noise_multiplier · C / expected.
    declared = mechanism(noise_multiplier=3.0, clipping_norm=2.0)
    generator = np.random.default_rng(2)
    empty = simulated_round(declared, 10, np.ones((0, 2 * SIDE)), generator)
    assert float(empty.std()) == pytest.approx(3.0 * 2.0 / 10, rel=0.05)
    # One patient at rate 1: moved by C / expected along its unit direction.
    one = simulated_round(replace(declared, noise_multiplier=1e-12), 10, np.ones((1, 2 * SIDE)), generator)
    assert float(np.linalg.norm(one)) == pytest.approx(2.0 / 10)


def test_same_seed_same_canaries_and_null() -> None:
    def constant(*arguments: object) -> dict[str, Tensor]:
        return {"probe": torch.ones(SIDE, SIDE)}

    one, two = (one_run_audit(constant, SMALL, PATIENTS, canaries=100, seed=9, simulations=3) for _ in range(2))
    assert one == two


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="outside"):
        one_run_audit(engine, SMALL, PATIENTS, canaries=99)
    with pytest.raises(InvalidRequest, match="noise multiplier"):
        one_run_audit(engine, replace(SMALL, noise_multiplier=None, epsilon=1.0), PATIENTS)
