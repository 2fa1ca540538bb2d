"""Plans and published datasets of a small made-up table, in one call."""

from __future__ import annotations

from typing import Any

from policies.graph.graphs import Graph
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Query, Regression, Statistics
from policies.release.plans import Plan, Published
from policies.schema.schemas import Column, Schema

SCHEMA = Schema(
    name="flu",
    population="city",
    patient="patient",
    target="influenza",
    holdout=0.2,
    columns=(
        Column(name="age", kind="integer", minimum=0, maximum=90),
        Column(name="temperature", kind="real", minimum=34, maximum=42),
        Column(name="cough", kind="boolean"),
        Column(name="influenza", kind="boolean"),
    ),
)
# nn.Linear(3, 2), as the exporter writes it.
LINEAR = Graph.from_dict(
    {
        "parameters": [["layer.weight", [2, 3], "float32"], ["layer.bias", [2], "float32"]],
        "input_shape": [3],
        "nodes": [
            ["n0", "permute", [{"parameter": "layer.weight"}, [1, 0]], [["float32", [3, 2]]]],
            [
                "n1",
                "addmm",
                [{"parameter": "layer.bias"}, {"ref": "record"}, {"ref": "n0"}, 1, 1],
                [["float32", [1, 2]]],
            ],
        ],
        "output": "n1",
        "output_shape": [2],
    }
)


def training(**changes: Any) -> DPSGD:
    """Five rounds of forty steps at ε = 2."""
    facts: dict[str, Any] = {
        "loss": "cross_entropy",
        "rounds": 5,
        "steps": 40,
        "sampling_rate": 0.1,
        "clipping_norm": 1.0,
        "learning_rate": 0.5,
        "epsilon": 2.0,
    }
    return DPSGD(**{**facts, **changes})


def statistics(**changes: Any) -> Statistics:
    """A count and a mean at ε = 0.2."""
    facts: dict[str, Any] = {"queries": (Query("count"), Query("mean", ("temperature",))), "epsilon": 0.2}
    return Statistics(**{**facts, **changes})


def evaluation(**changes: Any) -> Evaluation:
    """Scores of two models, ε = 0.5 each."""
    facts: dict[str, Any] = {"loss": "cross_entropy", "epsilon": 0.5, "rounds": 2}
    return Evaluation(**{**facts, **changes})


def survival(**changes: Any) -> KaplanMeier:
    """Time to influenza by cough, ε = 0.5."""
    facts: dict[str, Any] = {"time": "age", "event": "influenza", "by": "cough", "epsilon": 0.5}
    return KaplanMeier(**{**facts, **changes})


def regression(**changes: Any) -> Regression:
    """Temperature by age and cough, ε = 1."""
    facts: dict[str, Any] = {
        "outcome": "temperature",
        "terms": ("age", "cough", "age * cough"),
        "family": "gaussian",
        "epsilon": 1.0,
    }
    return Regression(**{**facts, **changes})


def plan_of(declared: Mechanism, **changes: Any) -> Plan:
    """The plan of a mechanism, over `LINEAR` where it has a model."""
    facts: dict[str, Any] = {
        "function": "flu_2026",
        "mechanism": resolve(declared),
        "model": "FluPredictor" if isinstance(declared, DPSGD | Evaluation) else None,
        "graph": LINEAR if isinstance(declared, DPSGD | Evaluation) else None,
        "source_sha256": "5" * 64,
        "dataset": "flu",
        "version": "v1",
        "declared": declared,
    }
    return Plan(**{**facts, **changes})


def published(**changes: Any) -> Published:
    """The dataset `flu` with 1,000 declared patients."""
    facts: dict[str, Any] = {
        "name": "flu",
        "version": "v1",
        "population": "city",
        "schema": SCHEMA,
        "patients": 1000,
        "size_kind": "declared",
    }
    return Published(**{**facts, **changes})
