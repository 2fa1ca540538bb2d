"""The one-run audit (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846) as one more detector of planted faults.

`engine.privacy_audit` has the audit, with patients as canaries and the declared mechanism's own simulated null; here it
is asked of our engine as it stands, faults and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datasites.engine import training
from datasites.engine.noise import NoiseSource
from datasites.engine.privacy_audit import OneRunAudit, one_run_audit
from tests.proof.cases import known_keys
from tests.proof.mechanisms.dp_sgd import sgd

AUDITED = sgd(rounds=2, steps=5, sampling_rate=0.3, noise_multiplier=2.0)
CANARIES, PATIENTS = 2000, 500
SURPLUS = 6.0  # deviations of the simulated null beyond which a fault is found
SHOWN = ("no noise", "half noise", "per record where per patient is claimed")  # by canaries of one tensor, 3 records


def _train(graph: Any, mechanism: Any, schema: Any, patients: int, records: Any, weights: Any) -> Mapping[str, Tensor]:
    return training.train_round(graph, mechanism, schema, patients, records, weights, NoiseSource.from_os())


def audited(*, seed: int = 1) -> OneRunAudit:
    """One audit of the engine, with known keys."""
    with known_keys(f"one run {seed}"):
        return one_run_audit(_train, AUDITED, PATIENTS, canaries=CANARIES, seed=seed, simulations=12)
