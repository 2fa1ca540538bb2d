"""From a source to a plan: inspect the text, export the model in a confined process, resolve the mechanism.

The plan is one frozen value from which both the charge and the run are built. Nothing of the researcher's is executed
here.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from datasites.jobs.pool import JobPool
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import DatasetRecord
from policies.errors import GraphRefused
from policies.graph.graphs import Graph
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Evaluation, Statistics
from policies.release.plans import Plan, Published
from policies.schema.schemas import Schema
from policies.source.inspection import Inspection, inspect_source

EXPORT_SECONDS = 60.0
EXPORT_MEMORY = 2 << 30
KEPT_PLANS = 64


class Planner:
    """Makes plans of sources on published datasets, and keeps the last few.

    Args:
      pool: where the exporter runs.
    """

    def __init__(self, ledger: Ledger, pool: JobPool) -> None:
        self.ledger = ledger
        self.pool = pool
        self._plans: OrderedDict[tuple[str, str], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def published(self, *, name: str | None = None, version: str | None = None) -> Published:
        """A dataset's public side. Raises `InvalidRequest` where there is none of that name or version."""
        return published_from(self.ledger.datasets.get(name=name, version=version))

    def plan(self, source: str, published: Published) -> Plan:
        """The plan of a source on a dataset.

        Raises:
          InspectionFailed: the text is refused; carries findings.
          GraphRefused: the model cannot leave as a graph.
          UnsupportedMechanism: an argument does not fit the mechanism or the schema.
        """
        key = (hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(), published.version)
        with self._lock:
            if key in self._plans:
                return self._plans[key]
        plan = self._make_plan(source, key[0], published)
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        return plan

    def _make_plan(self, source: str, source_sha256: str, published: Published) -> Plan:
        inspection = inspect_source(source)
        schema = published.schema
        graph = None
        if isinstance(inspection.mechanism, Statistics):
            for query in inspection.mechanism.queries:
                schema.check_query(query)
        else:
            graph = self._export(inspection, schema)
        return Plan(
            function=inspection.function,
            mechanism=accountant.resolve(inspection.mechanism),
            model=inspection.model,
            graph=graph,
            source_sha256=source_sha256,
            dataset=published.name,
            version=published.version,
            declared=inspection.mechanism,
        )

    def _export(self, inspection: Inspection, schema: Schema) -> Graph:
        mechanism = inspection.mechanism
        assert isinstance(mechanism, DPSGD | Evaluation)
        shape = schema.input_shape(mechanism.inputs)
        job = {
            "job": "export",
            "source": inspection.model_source,
            "model": inspection.model,
            "input_shape": list(shape),
        }
        answer = self.pool.run("exporter", job, seconds=EXPORT_SECONDS, memory=EXPORT_MEMORY)
        if not answer.done:
            raise GraphRefused(answer.message.get("public") or "The model could not be exported. Try it on the mock.")
        graph = Graph.from_dict(answer.message.get("graph"))
        if graph.input_shape != shape:
            raise GraphRefused(f"The graph reads {graph.input_shape} and the schema gives {shape}.")
        check_outputs(graph, mechanism, schema)
        return graph


def published_from(record: DatasetRecord) -> Published:
    """The public side of a dataset as the ledger keeps it."""
    return Published(
        name=record.name,
        version=record.version,
        population=record.population,
        schema=record.schema,
        patients=int(record.patients or 0),
        size_kind=record.size_kind,
    )


def check_outputs(graph: Graph, mechanism: DPSGD | Evaluation, schema: Schema) -> None:
    """Raise `GraphRefused` unless the model's output fits its loss and the target's classes."""
    classes = len(schema.classes)
    wanted = classes if mechanism.loss == "cross_entropy" else 1
    numbers = 1
    for size in graph.output_shape:
        numbers *= size
    if wanted == 1 and classes != 2:
        raise GraphRefused(
            f"{mechanism.loss} is for two classes; {schema.target} has {classes}. Use loss='cross_entropy'."
        )
    if numbers != wanted:
        raise GraphRefused(
            f"The model answers {numbers} number(s) for a record; {mechanism.loss} wants {wanted}."
            " Change the last layer."
        )
