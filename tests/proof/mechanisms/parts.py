"""Training beside public constants, and with a part that stays: what leaves, seen along the patient's gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch

from datasites.engine import training
from datasites.engine.splitting import split_for
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Mechanism
from policies.schema.schemas import Schema
from tests.proof.attacker import FloatArray, seen_in_training
from tests.proof.cases import release
from tests.proof.mechanisms.dp_sgd import (
    NARROW,
    HalfNoise,
    NoNoise,
    _optimizer,
    sgd,
    shifted,
)
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix, direction, graph_of, loud, pair
from tests.proof.registry import STATIC, Case, Fault, Proof, noise_of

PUBLIC = "f" * 64  # the runner is given values: their digest is the datasite's to check
FROZEN = "a frozen first layer, every patient"
LOCAL = "a head that stays, every patient"
ONCE = "a frozen first layer that runs once a round, two steps"
ONE_RECORD = replace(SCHEMA, most_records_per_patient=1)


def watch_what_leaves(declared: Mechanism, table: Matrix, schema: Schema = SCHEMA) -> FloatArray:
    """Of what a job trained, all that the attacker could see if what stays were known to them as well."""
    assert isinstance(declared, DPSGD)
    mechanism = accountant.resolve(declared)
    assert isinstance(mechanism, DPSGD)
    sent = loud(NARROW)
    released = release(mechanism, table, sent, NARROW, PUBLISHED, schema)
    unit = mechanism.learning_rate * mechanism.clipping_norm / (mechanism.sampling_rate * PUBLISHED)
    sizes = [(name, sent[name].size) for name in sorted(sent)]
    places = np.cumsum([0, *(size for _, size in sizes)])
    whole = direction(NARROW)
    kept = [whole[places[index] : places[index + 1]] for index, (name, _) in enumerate(sizes) if name in released]
    along = np.concatenate(kept)
    return seen_in_training([{name: sent[name] for name in released}], [released], along / np.linalg.norm(along), unit)


def pairs() -> list[Case]:
    """A part frozen, and a part kept: the static check of the second is the datasite's (`review.model_parts`)."""
    frozen = sgd(frozen=("first.*",), public_weights=PUBLIC)
    local = sgd(local=("last.*",), public_weights=PUBLIC)
    once = replace(frozen, steps=2, noise_multiplier=0.9)
    assert split_for(graph_of(NARROW, once.frozen), once, ONE_RECORD, PUBLISHED) is not None
    return [
        Case(FROZEN, frozen, lambda: pair(1007), watch_what_leaves, NARROW),
        Case(LOCAL, local, lambda: pair(1007), watch_what_leaves),
        Case(ONCE, once, lambda: pair(1007), partial(watch_what_leaves, schema=ONE_RECORD), NARROW, ONE_RECORD),
    ]


@contextmanager
def frozen_part_trained_anyway() -> Iterator[None]:
    """A frozen layer follows the patients' mean gradient, without clip or noise, and goes out with the others."""
    real = training.train_round

    def train_round(graph: Any, mechanism: Any, schema: Any, published: int, records: Any, weights: Any, *more: Any,
                    **named: Any) -> Any:  # fmt: skip
        released = real(graph, mechanism, schema, published, records, weights, *more, **named)
        mean = float(np.asarray(records)[:, 2:-1].mean())
        return {**released, **{one.name: weights[one.name] + torch.tensor(mean) for one in graph.frozen}}

    with mock.patch.object(training, "train_round", train_round):
        yield


FAULTS = (
    Fault("frozen part trained anyway", frozen_part_trained_anyway, FROZEN, detector=STATIC),
    Fault("no noise beside a frozen part", _optimizer(NoNoise), FROZEN, chances=lambda: (0.0, 1.0)),
    Fault("no noise on a head whose body runs once", _optimizer(NoNoise), ONCE, chances=lambda: (0.0, 1.0)),
    Fault(
        "half noise with a head that stays", _optimizer(HalfNoise), LOCAL, chances=lambda: shifted(2 / noise_of(LOCAL))
    ),
)

PROOF = Proof(cases=pairs, faults=FAULTS)
