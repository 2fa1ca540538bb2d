"""The plan: what an inspected request will run, from which both the charge and the run are built.

A `Published` dataset is all that is public of a table. A `Plan` binds source, mechanism, graph and the random version
identifier of the inputs by one digest; approval is of that digest. No digest of private data enters it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from policies.canonical import canonical
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Regression, as_dict, mechanism_from
from policies.release.compression import compressed_shapes
from policies.release.evaluation_tables import evaluation_tables
from policies.schema.design import sum_shapes
from policies.schema.questions import answer_shape
from policies.schema.schemas import Schema
from policies.schema.summed_regression import regression_numbers
from policies.schema.summed_statistics import summed_numbers
from policies.schema.survival_cells import TENSOR as SURVIVAL
from policies.schema.survival_cells import survival_shape


@dataclass(frozen=True)
class Published:
    """What is public of a dataset.

    Args:
      version: a random identifier, new at each publication.
      patients: the published number of patients, hold-out included.
      size_kind: `"declared"` where the owner typed `patients`, `"dp-count"` where the ledger paid for it.
    """

    name: str
    version: str
    population: str
    schema: Schema
    patients: int
    size_kind: str

    @property
    def training_patients(self) -> int:
        """The public number of patients outside the hold-out, at least 1: the base of sampling and of divisors."""
        return max(1, round(self.patients * (1 - self.schema.holdout)))


@dataclass(frozen=True)
class Plan:
    """One request, inspected and exported.

    Args:
      function: the request's name.
      mechanism: what will run; a `DPSGD` here always carries its resolved `noise_multiplier`.
      model: the model class's name, or None for statistics.
      graph: the model as a graph of tensor operators, or None for statistics.
      source_sha256: hex digest of the source text.
      dataset: the dataset's name.
      version: the dataset version's random identifier.
      declared: the mechanism as the researcher wrote it, before a noise multiplier was found.
    """

    function: str
    mechanism: Mechanism
    model: str | None
    graph: Graph | None
    source_sha256: str
    dataset: str
    version: str
    declared: Mechanism

    @property
    def rounds(self) -> int:
        """Releases that the plan may make in all."""
        return self.mechanism.rounds

    def as_dict(self) -> dict[str, Any]:
        """Plain data, from which `plan_from` makes an equal plan."""
        return {
            "function": self.function,
            "mechanism": as_dict(self.mechanism),
            "model": self.model,
            "graph": self.graph.as_dict() if self.graph else None,
            "source_sha256": self.source_sha256,
            "dataset": self.dataset,
            "version": self.version,
            "declared": as_dict(self.declared),
        }

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the canonical JSON of the plan."""
        return hashlib.sha256(canonical(self.as_dict())).hexdigest()


def plan_from(data: dict[str, Any]) -> Plan:
    """The plan that `Plan.as_dict` wrote. Raises `GraphRefused` or `UnsupportedMechanism` where it is not sound."""
    return Plan(
        function=data["function"],
        mechanism=mechanism_from(data["mechanism"]),
        model=data["model"],
        graph=Graph.from_dict(data["graph"]) if data["graph"] else None,
        source_sha256=data["source_sha256"],
        dataset=data["dataset"],
        version=data["version"],
        declared=mechanism_from(data["declared"]),
    )


def release_shapes(plan: Plan, schema: Schema) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name, shape and dtype (as `"float32"`) of every tensor in a release of `plan`: public, whatever the data are.

    Under the masks of secure aggregation every number is a word of 32 bits.
    """
    shapes = answer_shapes(plan, schema)
    if getattr(plan.mechanism, "secure_aggregation", None) is None:
        return shapes
    return {name: (shape, "uint32") for name, (shape, _) in shapes.items()}


def answer_shapes(plan: Plan, schema: Schema) -> dict[str, tuple[tuple[int, ...], str]]:
    """The same of what a job answers, before any mask."""
    if isinstance(plan.mechanism, DPSGD):
        assert plan.graph is not None
        if plan.mechanism.compression != "none":
            return compressed_shapes((parameter.name, parameter.shape) for parameter in plan.graph.parameters)
        if plan.mechanism.step_grid is not None:  # a sum of gradients, in steps of its grid
            return {parameter.name: (parameter.shape, "int64") for parameter in plan.graph.parameters}
        return {parameter.name: (parameter.shape, parameter.dtype) for parameter in plan.graph.parameters}
    if isinstance(plan.mechanism, Evaluation):
        assert plan.graph is not None
        outputs = plan.graph.output_shape[-1] if plan.graph.output_shape else 1
        tables = evaluation_tables(plan.mechanism, schema.predicting(plan.mechanism), outputs)
        return {table.name: (table.shape, "float64") for table in tables}
    if isinstance(plan.mechanism, KaplanMeier):
        return {SURVIVAL: (survival_shape(plan.mechanism, schema), "float64")}
    if isinstance(plan.mechanism, Regression):
        if plan.mechanism.secure_aggregation is not None:
            return {name: (part.shape, "float64") for name, part in regression_numbers(plan.mechanism, schema).items()}
        return {name: (shape, "float64") for name, shape in sum_shapes(plan.mechanism, schema).items()}
    if plan.mechanism.secure_aggregation is not None:
        return {name: (part.shape, "float64") for name, part in summed_numbers(plan.mechanism, schema).items()}
    return {query.key: (answer_shape(query, plan.mechanism, schema), "float64") for query in plan.mechanism.queries}
