"""Whether a model's output is what its loss takes: how many numbers, and of which last operator.

A loss on logits takes the last layer's numbers as they are. A sigmoid before it keeps every logit within 0 and 1, so no
probability leaves [0.5, 0.73] and the model learns little, without any error; a softmax before cross-entropy does the
same, an exponential before a Poisson loss is taken twice, and logits under plain binary cross-entropy are no
probabilities. All of it is to be seen in the graph's last operators, whatever the source looks like.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass

from policies.errors import GraphRefused, InspectionFailed
from policies.graph.graphs import Graph, Node
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.privacy.outcomes import MOST_INTERVALS, Outcome, outcome_of
from policies.python_trees import parsed
from policies.release.evaluation_tables import evaluation_tables
from policies.schema.schemas import Schema
from policies.source.findings import Findings

SHAPES_ONLY = {
    "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "flatten", "permute", "transpose", "t", "select",
    "slice", "expand", "contiguous", "clone", "alias", "cat", "stack",
}  # fmt: skip
"""Operators that move numbers and change none."""

LINEAR = {"addmm", "mm", "bmm", "linear", "matmul", "convolution", "native_layer_norm", "native_group_norm"}
PROBABILITIES = {"sigmoid": "sigmoid", "_softmax": "softmax", "softmax": "softmax"}
LOGARITHMS = {"_log_softmax": "log_softmax", "log_softmax": "log_softmax", "logsigmoid": "logsigmoid"}
POSITIVE = {"exp": "exp", "softplus": "softplus", "relu": "relu"}

_LOGITS = ("binary_cross_entropy_with_logits", "discrete_hazards", "multilabel_binary_cross_entropy_with_logits")


def check_outputs(graph: Graph, mechanism: DPSGD | Evaluation, schema: Schema) -> None:
    """Raise `GraphRefused` unless the model's output fits its loss and the target; `UnsupportedMechanism` unless an
    evaluation's subgroups fit the schema.

    Args:
      schema: with the mechanism's target (`Schema.predicting`).
    """
    loss, classes, numbers = mechanism.loss, len(schema.classes), math.prod(graph.output_shape)
    outcome = outcome_of(loss)
    if outcome is Outcome.TIME:
        if len(graph.output_shape) != 1 or not 1 <= numbers <= MOST_INTERVALS:
            raise GraphRefused(
                f"The model answers {graph.output_shape} for a record; {loss} wants one logit for each of 1 to"
                f" {MOST_INTERVALS} intervals of time, (intervals,). Change the last layer."
            )
    else:
        if outcome is Outcome.CLASS and loss != "cross_entropy" and classes != 2:
            raise GraphRefused(
                f"{loss} takes one output and two classes; {schema.target} has {classes}. Use loss='cross_entropy'."
            )
        wanted = classes if loss == "cross_entropy" or outcome is Outcome.LABELS else 1
        if numbers != wanted:
            each = ", one logit per class" if loss == "cross_entropy" else ""
            raise GraphRefused(
                f"The model answers {numbers} number(s) for a record; {loss} wants {wanted}{each}."
                " Change the last layer."
            )
    weights = mechanism.class_weights if isinstance(mechanism, DPSGD) else ()
    if weights and len(weights) != classes:
        raise GraphRefused(f"class_weights has {len(weights)} numbers for {classes} classes or labels. Give one each.")
    if isinstance(mechanism, Evaluation):
        evaluation_tables(mechanism, schema, numbers)


def check_last_layer(graph: Graph, loss: str, source: str, model: str) -> None:
    """Raise `InspectionFailed` with a finding, its line and what to write, where the last operator is not the loss's.

    Args:
      source: of the whole request; `model` is the class's name in it.
    """
    mismatch = mismatch_of(graph, loss)
    if mismatch is None:
        return
    node = _culprit(source, model, mismatch.operator)
    findings = Findings(source)
    findings.add("loss", node, mismatch.why, mismatch.instead)
    where = f"line {node.lineno}: " if node is not None else ""
    raise InspectionFailed(f"{where}{mismatch.why} {mismatch.instead}", findings=tuple(findings.found))


@dataclass(frozen=True)
class Mismatch:
    """The operator that does not go with a loss, "" for none at all, why, and what to write instead."""

    operator: str
    why: str
    instead: str


def mismatch_of(graph: Graph, loss: str) -> Mismatch | None:
    """What a model's last operator has against its loss; None where they go together."""
    last = last_operators(graph)
    squashing = sorted({name for op in last for name in [PROBABILITIES.get(op) or LOGARITHMS.get(op)] if name})
    positive = sorted(POSITIVE[op] for op in last if op in POSITIVE)
    if squashing and (loss == "cross_entropy" or loss in _LOGITS):
        own = "softmax" if loss == "cross_entropy" else "sigmoid"
        instead = f"Return the last layer's numbers, without {squashing[0]}"
        if loss == _LOGITS[0] and squashing == ["sigmoid"]:
            instead += ", or use loss='binary_cross_entropy'"
        why = f"The model ends in {squashing[0]}, and {loss} takes logits: it has a {own} itself, and learns little so."
        return Mismatch(squashing[0], why, f"{instead}.")
    if loss == "binary_cross_entropy" and last and all(op in LINEAR or op in LOGARITHMS for op in last):
        return Mismatch(
            "",
            "The model ends in logits, and binary_cross_entropy takes a probability between 0 and 1.",
            "Return torch.sigmoid(...) of them, or use loss='binary_cross_entropy_with_logits'.",
        )
    if loss == "poisson" and positive:
        return Mismatch(
            positive[0],
            f"The model ends in {positive[0]}, and poisson takes the logarithm of the rate, which may be below 0.",
            f"Return the last layer's number, without {positive[0]}: the loss has the exponential itself.",
        )
    bounded = [name for name in positive if name != "softplus"] or [name for name in squashing if name == "sigmoid"]
    if loss in ("mean_squared_error", "huber") and bounded:
        return Mismatch(
            bounded[0],
            f"The model ends in {bounded[0]}, which is never below 0, and the target is scaled to [-1, 1].",
            "Return the last layer's number, or torch.tanh of it.",
        )
    return None


def _culprit(source: str, model: str, operator: str) -> ast.stmt | ast.expr | None:
    """Where the source names an operator last, in the model's class first; without one, forward's last return."""
    classes = [node for node in ast.walk(parsed(source)) if isinstance(node, ast.ClassDef)]
    found: list[ast.stmt | ast.expr] = []
    for node in sorted(classes, key=lambda node: node.name != model):
        if found:
            break
        for part in ast.walk(node):
            name = ""
            if isinstance(part, ast.Call):
                name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
            named = bool(operator) and name.replace("_", "").lower() == operator.replace("_", "")
            if named and isinstance(part, ast.Call):
                found.append(part)
            elif isinstance(part, ast.FunctionDef) and part.name == "forward" and not operator:
                found += [line for line in ast.walk(part) if isinstance(line, ast.Return)]
    return max(found, key=lambda part: part.lineno) if found else None


def last_operators(graph: Graph) -> set[str]:
    """The operators that made the model's output, seen through those that only move numbers."""
    nodes = {node.name: node for node in graph.nodes}
    waiting, seen, found = [graph.output], set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        node = nodes.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op.partition(".")[0] in SHAPES_ONLY:
            waiting += _moved(node)
        elif node.op.partition(".")[0] == "add" and (fed := _fed(node)):
            found |= {nodes[other].op.partition(".")[0] for other in fed if other in nodes} & LINEAR or {"add"}
        else:
            found.add(_written(node, nodes))
    return found


def _written(node: Node, nodes: dict[str, Node]) -> str:
    """An operator's name; of what the exporter takes apart, softplus and logsigmoid, as it was written."""
    name = node.op.partition(".")[0]
    logarithms = [other for other in _fed(node) if other in nodes and nodes[other].op == "log1p"]
    exponentials = [inner for other in logarithms for inner in _fed(nodes[other])]
    exponentials = [inner for inner in exponentials if inner in nodes and nodes[inner].op == "exp"]
    if exponentials and name == "where":
        return "softplus"
    return "logsigmoid" if exponentials and name == "sub" else name


def _moved(node: Node) -> list[str]:
    first = node.args[0] if node.args else None
    return [name for part in (first if isinstance(first, list | tuple) else [first]) for name in _references(part)]


def _fed(node: Node) -> list[str]:
    return [name for part in node.args for name in _references(part)]


def _references(part: object) -> list[str]:
    return [part["ref"].partition("#")[0].partition(".")[0]] if isinstance(part, dict) and "ref" in part else []
