"""Check a study before it is submitted: inspection and export here, findings and cost at each hospital.

The check is the owner's own: inspection and exporter of `policies` here, then each datasite's quote, which adds
what it would cost there.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.errors import DatasiteError, GraphRefused, InvalidRequest, RuleBroken
from policies.graph.engines import LONGEST_REASON, engine_words
from policies.graph.graphs import Graph
from policies.graph.parts import check_public_weights
from policies.privacy.mechanisms import DPSGD, Evaluation, Mechanism, as_dict
from policies.release.model_outputs import check_last_layer, check_outputs
from policies.release.plans import Plan, Published, plan_from, release_shapes
from policies.source.inspection import inspect_source
from researcher.members import Hospitals
from researcher.parameters import DRAWING
from researcher.table import Table


@dataclass(frozen=True)
class Request:
    """What is asked of every hospital in one role.

    Args:
      role: `"training"`, `"evaluation"`, `"curve"`, `"statistics"`, ...
      function: its name; also the request's.
      source: what the owner will read.
      mechanism: what it declares.
    """

    role: str
    function: str
    source: str
    mechanism: Mechanism


@dataclass(frozen=True)
class Check:
    """What every hospital says to a study before it is asked.

    Args:
      rows: one per hospital and role, with the cost there.
      sources: of the requests, by role.
      findings: against them, as "hospital: line 7 ...".
      reasons: why a hospital will not be asked, by hospital.
      digests: of the plans that would be approved, by role and hospital.
      facts: what certificates of those plans will have to say, by role and hospital.
      engines: which engine will run a model, as "hospital, hospital: function trains in lanes ...".
      notes: what of the model is nothing at hospitals, as "flu_2026: line 12: Dropout is nothing here ...".
      expectations: what noise will do to a training, in sentences, from public figures.
    """

    rows: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, str]
    findings: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[tuple[str, str], str] = field(default_factory=dict)
    facts: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    engines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    expectations: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        """Cost per hospital and role."""
        return Table(self.rows)

    def __str__(self) -> str:
        explained = {finding.partition(":")[0] for finding in self.findings}
        others = [named(name, reason) for name, reason in self.reasons.items() if name not in explained]
        lines = (*dict.fromkeys(self.findings), *others, *self.notes, *self.engines, *self.expectations)
        return "\n".join([str(self.table), *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + "".join(
            f"<p>{html.escape(line)}</p>" for line in (*self.notes, *self.engines, *self.expectations)
        )


def check_source(request: Request, cohort: Hospitals) -> Graph | None:
    """The datasites' own inspection and export, on the researcher's machine. Raises what they would find.

    Returns:
      The model's graph, which every hospital must come to as well; None where none is run.
    """
    inspection = inspect_source(request.source)
    if not isinstance(request.mechanism, DPSGD | Evaluation):
        return None
    if inspection.model is None or inspection.model_source is None:
        raise InvalidRequest(f"{request.function} has no model.")
    schema = cohort.schema.predicting(request.mechanism)
    shape = schema.input_shape(request.mechanism.inputs)
    try:
        parts = (request.mechanism.frozen, request.mechanism.local)
        graph = exported(inspection.model_source, inspection.model, shape, parts)
        check_public_weights(graph, request.mechanism)
        check_outputs(graph, request.mechanism, schema)
        check_last_layer(graph, request.mechanism.loss, request.source, inspection.model)
        return graph
    except GraphRefused as refusal:
        if "cannot be exported" not in str(refusal):
            raise
        raise GraphRefused(f"{refusal.public_message} Here forward gets one record, of shape {(1, *shape)}.") from None


@functools.lru_cache(maxsize=16)
def _exported(
    model_source: str, model: str, shape: tuple[int, ...], parts: tuple[tuple[str, ...], tuple[str, ...]]
) -> Graph:
    from policies.graph.exporter import export_source

    graph, _ = export_source(model_source, model, shape, frozen=parts[0], local=parts[1])
    return graph


def exported(
    model_source: str,
    model: str,
    shape: tuple[int, ...],
    parts: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
) -> Graph:
    """The graph of a model that a source defines; of the last few, made once. One thread at a time.

    Args:
      parts: patterns of its frozen and of its local parameters.
    """
    with DRAWING:
        return _exported(model_source, model, shape, parts)


def notes_of(request: Request) -> tuple[str, ...]:
    """What of a request's model is nothing at hospitals, a line each."""
    return tuple(f"{request.function}: {note}" for note in inspect_source(request.source).notes)


def plan_facts(request: Request, quote: Mapping[str, Any], published: Published, graph: Graph | None) -> dict[str, Any]:
    """What a certificate of this request will have to say, by its fields, from the plan in a hospital's quote.

    Raises:
      RuleBroken: the hospital would run something else than this request on this dataset. Nothing was asked.
    """
    try:
        plan = plan_from(quote["plan"])
    except (DatasiteError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise RuleBroken("its quote has no plan that can be read. Tell its owner.") from None
    wanted = {
        "function": (plan.function, request.function),
        "source": (plan.source_sha256, sha256(request.source)),
        "mechanism": (_unresolved(plan), _as_json(request.mechanism)),
        "graph of the model": (plan.graph.digest if plan.graph else None, graph.digest if graph else None),
        "dataset": ((plan.dataset, plan.version), (published.name, published.version)),
        "plan's digest": (plan.digest, quote["plan_digest"]),
    }
    for part, (quoted, asked) in wanted.items():
        if quoted != asked:
            raise RuleBroken(f"it would run another {part} than is asked. Compare versions with its owner.")
    shapes = release_shapes(plan, published.schema)
    return {
        "function": plan.function,
        "rounds": plan.rounds,
        "dataset": plan.dataset,
        "version": plan.version,
        "population": published.population,
        "size": {"patients": published.patients, "kind": published.size_kind},
        "source_sha256": plan.source_sha256,
        "graph_digest": plan.graph.digest if plan.graph else None,
        "plan_digest": plan.digest,
        "mechanism": as_dict(plan.mechanism),
        "declared": as_dict(plan.declared),
        "tensors": [[name, dtype, list(shape)] for name, (shape, dtype) in sorted(shapes.items())],
    }


def _unresolved(plan: Plan) -> Any:
    """The mechanism of a plan, once its noise multiplier is left as it was declared."""
    declared, resolved = _as_json(plan.declared), _as_json(plan.mechanism)
    changed = {name for name in {*resolved, *declared} if resolved.get(name) != declared.get(name)}
    return declared if changed <= {"epsilon", "noise_multiplier"} else resolved


def _as_json(mechanism: Mechanism) -> Any:
    return json.loads(json.dumps(as_dict(mechanism)))


def sha256(source: str) -> str:
    """Hex digest of a source text."""
    return hashlib.sha256(source.encode()).hexdigest()


def cost_row(hospital: str, request: Request, quote: Mapping[str, Any]) -> dict[str, Any]:
    """One line of a check's table."""
    cost = quote["cost"] or {}
    return {
        "hospital": hospital,
        "request": request.function,
        "accepted": bool(quote["accepted"]),
        "ε": cost.get("epsilon"),
        "δ": cost.get("delta"),
        "rounds": cost.get("rounds"),
        "noise": cost.get("noise_multiplier"),
        "ε spent before": cost.get("spent_before"),
        "after": cost.get("spent_after"),
        "of": cost.get("budget"),
        "fits": cost.get("fits"),
    }


def engine_words_of(request: Request, quote: Mapping[str, Any]) -> str:
    """Which engine a hospital will run a request's model with, from its quote; "" where it does not say."""
    engine = quote.get("engine")
    if engine is None or not isinstance(request.mechanism, DPSGD | Evaluation):
        return ""
    trains = isinstance(request.mechanism, DPSGD)
    once = trains and engine.get("once") is True  # a hospital of an earlier version does not say
    words = engine_words(lanes=engine["lanes"], why=engine["why"][:LONGEST_REASON], trains=trains, once=once)
    return f"{request.function} {words[0].lower()}{words[1:]}"


def why_not(quote: Mapping[str, Any]) -> str:
    """Why a hospital would not take a request, from its quote; empty where it would."""
    cost = quote["cost"] or {}
    if not quote["accepted"] and quote["findings"]:
        return "; ".join(finding_text(finding) for finding in quote["findings"])
    if cost and not cost.get("fits", True):
        return (
            f"it is ε={cost.get('short', 0.0):.3g} short of the hospital's budget. Ask for fewer rounds or more noise."
        )
    return "" if quote["accepted"] else "it would not be accepted there."


def named(hospital: str, reason: str) -> str:
    """A reason with the hospital's name before it, once."""
    return reason if reason.startswith(hospital) else f"{hospital}: {reason}"


def finding_text(finding: Mapping[str, Any]) -> str:
    """A finding in one line."""
    where = f"line {finding['line']}: " if finding.get("line") else ""
    return f"{where}{finding.get('why', '')} {finding.get('instead') or ''}".rstrip()
