"""From a source to a plan: inspect the text, export the model in a confined process, resolve the mechanism.

The plan is one frozen value from which both the charge and the run are built. Nothing of the researcher's is executed
here.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from datasites.jobs.pool import JobPool
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import DatasetRecord
from datasites.review.quotas import HOUR, Quota
from datasites.review.secure_rounds import check_roster, check_scale
from policies.errors import DatasiteError, GraphRefused, Unavailable
from policies.graph.engines import LONGEST_REASON
from policies.graph.graphs import Graph
from policies.graph.parts import check_parted, check_public_weights
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Regression, Statistics, as_dict
from policies.privacy.shared_steps import check_numbers
from policies.release.model_outputs import check_last_layer, check_outputs
from policies.release.plans import Plan, Published
from policies.schema.design import design_of
from policies.schema.questions import check_statistics
from policies.schema.schemas import Schema
from policies.schema.survival_cells import survival_shape
from policies.source.inspection import Inspection, inspect_source
from policies.text import visible

Key = TypeVar("Key")
Value = TypeVar("Value")
EXPORT_SECONDS = 60.0
EXPORT_MEMORY = 2 << 30
LOWER_SECONDS = 30.0
KEPT_PLANS = KEPT_GRAPHS = 64


@dataclass(frozen=True)
class Engine:
    """Which engine of this datasite will run a plan's model: in lanes, or record by record because of `why`.

    `once` where a frozen body runs once a round.
    """

    lanes: bool
    why: str
    once: bool = False


class Planner:
    """Makes plans of sources on published datasets, and keeps the last few.

    Args:
      pool: where the exporter runs.
      exporter_seconds_per_hour: that models of one researcher may keep it busy.
      public_key: of this datasite's certificates, by which rosters name it.
    """

    def __init__(
        self,
        ledger: Ledger,
        pool: JobPool,
        *,
        exporter_seconds_per_hour: float = 1800.0,
        public_key: Callable[[], str] = lambda: "",
    ) -> None:
        self.ledger = ledger
        self.public_key = public_key
        self.pool = pool
        self.exporter_seconds = Quota(exporter_seconds_per_hour, HOUR)
        self._plans: OrderedDict[tuple[str, str], Plan] = OrderedDict()
        self._graphs: OrderedDict[tuple[object, ...], Graph] = OrderedDict()
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.Lock()

    def published(self, *, name: str | None = None, version: str | None = None) -> Published:
        """A dataset's public side. Raises `InvalidRequest` where there is none of that name or version."""
        return published_from(self.ledger.datasets.get(name=name, version=version))

    def plan(self, source: str, published: Published, *, researcher: str | None = None) -> Plan:
        """The plan of a source on a dataset, in the exporter's time that `researcher` has; None is the datasite itself.

        Raises:
          Unavailable: the researcher's models have kept the exporter busy for as long as they may.
          InspectionFailed: the text is refused; carries findings.
          GraphRefused: the model cannot leave as a graph.
          UnsupportedMechanism: an argument does not fit the mechanism or the schema.
        """
        key = (hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(), published.version)
        with self._lock:
            if key in self._plans:
                return self._plans[key]
        plan = self._make_plan(source, key[0], published, researcher)
        with self._lock:
            _keep(self._plans, key, plan, most=KEPT_PLANS)
        return plan

    def engine(self, plan: Plan, published: Published, *, researcher: str | None = None) -> Engine | None:
        """Which engine will run a plan's model, found out by the runner from its graph, with no row near.

        None of statistics, which have no model, and where the runner did not say. It counts as the exporter's time.
        """
        if plan.graph is None:
            return None
        with self._lock:
            if plan.digest in self._engines:
                return self._engines[plan.digest]
        job = {
            "job": "engine",
            "plan": plan.as_dict(),
            "mechanism": as_dict(plan.mechanism),
            "schema": published.schema.as_dict(),
            "training_patients": published.training_patients,
        }
        try:
            with self._exporting(researcher):
                said = self.pool.run("runner", job, seconds=LOWER_SECONDS, memory=EXPORT_MEMORY).message
        except DatasiteError:
            return None
        lanes, why = said.get("lanes"), said.get("slower")
        if not isinstance(lanes, bool) or not isinstance(why, str):
            return None
        engine = Engine(lanes, visible(why[:LONGEST_REASON]), said.get("once") is True)
        with self._lock:
            _keep(self._engines, plan.digest, engine, most=KEPT_PLANS)
        return engine

    def _make_plan(self, source: str, source_sha256: str, published: Published, researcher: str | None) -> Plan:
        inspection = inspect_source(source)
        check_roster(inspection.mechanism, published, self.public_key())
        schema = published.schema
        graph = None
        if isinstance(inspection.mechanism, Statistics):
            check_statistics(inspection.mechanism, schema)
        elif isinstance(inspection.mechanism, KaplanMeier):
            survival_shape(inspection.mechanism, schema)
        elif isinstance(inspection.mechanism, Regression):
            design_of(inspection.mechanism, schema)
        else:
            graph = self._graph(inspection, schema, researcher)
            check_public_weights(graph, inspection.mechanism)
            if isinstance(inspection.mechanism, DPSGD) and inspection.mechanism.step_grid is not None:
                check_numbers(sum(parameter.elements for parameter in graph.trained))
            check_last_layer(graph, inspection.mechanism.loss, source, inspection.model or "")
        check_scale(inspection.mechanism, published)
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

    def _graph(self, inspection: Inspection, schema: Schema, researcher: str | None) -> Graph:
        """The model's graph. One model of one researcher's leaves once, however many requests train and score it."""
        mechanism = inspection.mechanism
        assert isinstance(mechanism, DPSGD | Evaluation)
        schema = schema.predicting(mechanism)
        shape = schema.input_shape(mechanism.inputs)
        parts = (mechanism.frozen, mechanism.local)
        key = (researcher, inspection.model_source, inspection.model, shape, parts)  # nobody learns what others asked
        with self._lock:
            graph = self._graphs.get(key)
        if graph is None:
            with self._exporting(researcher):
                graph = self._export(inspection, shape, *parts)
        check_outputs(graph, mechanism, schema)
        with self._lock:
            _keep(self._graphs, key, graph, most=KEPT_GRAPHS)
        return graph

    @contextmanager
    def _exporting(self, researcher: str | None) -> Iterator[None]:
        """What is done inside takes the researcher's time of the exporter, however it ends."""
        quota = self.exporter_seconds
        if researcher is not None and quota.left(researcher) <= 0:
            raise Unavailable(
                f"Your models kept this datasite's exporter busy for exporter_seconds_per_hour={quota.most:g} seconds"
                f" within an hour. Try again in {quota.minutes(researcher)} min, or ask the hospital for more."
            )
        began = time.monotonic()
        try:
            yield
        finally:
            if researcher is not None:
                quota.take(researcher, time.monotonic() - began)

    def _export(
        self, inspection: Inspection, shape: tuple[int, ...], frozen: tuple[str, ...], local: tuple[str, ...]
    ) -> Graph:
        job = {
            "job": "export",
            "source": inspection.model_source,
            "model": inspection.model,
            "input_shape": list(shape),
            "frozen": list(frozen),
            "local": list(local),
        }
        answer = self.pool.run("exporter", job, seconds=EXPORT_SECONDS, memory=EXPORT_MEMORY)
        if not answer.done:
            raise GraphRefused(answer.message.get("public") or "The model could not be exported. Try it on the mock.")
        graph = Graph.from_dict(answer.message.get("graph"))
        if graph.input_shape != shape:
            raise GraphRefused(f"The graph reads {graph.input_shape} and the schema gives {shape}.")
        check_parted(graph, frozen, local)
        return graph


def _keep(kept: OrderedDict[Key, Value], key: Key, value: Value, *, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)


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
