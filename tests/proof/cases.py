"""How a pair is tried: through the runner's own jobs, from bytes to bytes, as often as wanted.

A trial goes through the runner's own jobs (`datasites.jobs.child`): a plan and a schema as plain data and the bytes
of the weights go in, the bytes of a release come out, and noise is keyed as a job keys it. What is tried of a mechanism
is in a module of `tests.proof.mechanisms`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np

from datasites.engine import evaluation
from datasites.engine import training as training_engine
from datasites.engine.interpreter import Forward, forward
from datasites.engine.noise import KEY_BYTES
from policies.graph.graphs import Graph
from policies.privacy import accountant
from policies.privacy.mechanisms import Mechanism, as_dict
from policies.release.plans import Plan, release_shapes
from policies.release.tensors import check_tensors, from_bytes, to_bytes
from policies.schema.schemas import Schema
from tests.proof.attacker import FloatArray
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix, Weights, graph_of, loud
from tests.proof.registry import Case, cases, proof_of

__all__ = ["Case", "cases", "check_shapes", "known_keys", "plan_of", "release", "watched"]


def plan_of(mechanism: Mechanism, hidden: int | None) -> Plan:
    """A plan as the exporter and the accountant leave it."""
    parts = (getattr(mechanism, "frozen", ()), getattr(mechanism, "local", ()))
    graph = graph_of(hidden, *parts) if hidden else None
    return Plan("proof", mechanism, "TwoLayers" if graph else None, graph, "", "t", "v", mechanism)


@lru_cache(maxsize=64)
def _job(mechanism: Mechanism, hidden: int | None, published: int, schema: str) -> dict[str, Any]:
    return {
        "plan": plan_of(mechanism, hidden).as_dict(),
        "mechanism": as_dict(mechanism),
        "schema": json.loads(schema),
        "training_patients": published,
    }


@lru_cache(maxsize=64)
def _text(schema: Schema) -> str:
    return json.dumps(schema.as_dict())


def release(
    mechanism: Mechanism,
    table: Matrix,
    weights: Weights | None,
    hidden: int | None,
    published: int,
    schema: Schema = SCHEMA,
) -> dict[str, Any]:
    """What one job releases, read from its bytes."""
    work = proof_of(mechanism).job
    assert work is not None
    described = _job(mechanism, hidden, published, _text(schema))
    message, payload = work(described, to_bytes(weights) if weights else b"", table)
    assert message == {}
    return from_bytes(payload)


@contextmanager
def known_keys(seed: str) -> Iterator[None]:
    """Let the operating system's random bytes be known ones, for runs that repeat. python-dp's are beyond this."""
    drawn, real = 0, os.urandom

    def urandom(count: int) -> bytes:
        nonlocal drawn
        if count != KEY_BYTES:  # torch asks for a few bytes, too
            return real(count)
        drawn += 1
        return hashlib.sha256(f"tests.proof/{seed}/{drawn}".encode()).digest()

    with mock.patch.object(os, "urandom", urandom):
        yield


@contextmanager
def checking_graphs_once() -> Iterator[None]:
    """Let a graph be checked and made ready for its first trial alone: it is the same one, and it holds nothing."""
    ready: dict[str, Forward] = {}

    def known(graph: Graph, frozen: Any = None) -> Forward:
        if frozen:
            return forward(graph, frozen)
        text = json.dumps(graph.as_dict())
        if text not in ready:
            ready[text] = forward(graph)
        return ready[text]

    with mock.patch.object(training_engine, "forward", known), mock.patch.object(evaluation, "forward", known):
        yield


def watched(case: Case, trials: int, *, seed: str) -> tuple[FloatArray, FloatArray]:
    """[trials, features] without the patient and with, in turns."""
    tables = case.tables()
    with known_keys(f"{case.name}/{seed}"), checking_graphs_once():
        seen = [[case.watch(case.declared, table) for table in tables] for _ in range(trials)]
    both = np.asarray(seen, dtype=np.float64)
    return both[:, 0], both[:, 1]


def check_shapes(case: Case) -> None:
    """The static check: raise unless a release has exactly the names, shapes and dtypes of its plan."""
    mechanism, hidden = accountant.resolve(case.declared), case.hidden
    for table in case.tables():
        found = release(mechanism, table, loud(hidden) if hidden else None, hidden, PUBLISHED, case.schema)
        check_tensors(found, release_shapes(plan_of(mechanism, hidden), case.schema), finite=False)
