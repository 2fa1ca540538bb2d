"""A model as data: a graph of allowed tensor operators over one record, with bounds. No torch here.

The graph is all of a researcher's model that ever meets private rows. It is written and read as plain data, refused
unless every operator is in `operators.OPERATORS` with arguments of the declared kinds, and checked again by whoever
runs it. What is deliberately absent: random, in-place, data-dependent and aliasing operators, buffers, dtypes beyond
`DTYPES`, and any operator that may fail on some values of a record and not on others.

A model's parameters are in three parts (`policies.privacy.parts`): those that are trained and released, frozen ones,
which are public constants, and local ones, which are trained and stay.

A reference is `{"ref": "n3"}` for a node, `{"ref": "record"}` for the record (as a batch of one) and
`{"parameter": "layer1.weight"}` for a parameter. Infinite constants, which masks need, are `{"number": "-inf"}`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from policies.errors import GraphRefused
from policies.graph.operators import DTYPES, OPERATORS, check_arguments, references

MAX_NODES = 2_000
MAX_PARAMETERS = 5_000_000  # elements over all parameter tensors that are trained
MAX_FROZEN = 50_000_000  # elements over all that are not: 200 MB
MAX_TENSORS = 200
MAX_RANK = 8
MAX_ELEMENTS = 5_000_000  # of any one intermediate, for one record
MAX_TOTAL_ELEMENTS = 50_000_000  # of all intermediates together, for one record
MAX_RECORD_ELEMENTS = 100_000
RECORD = "record"

_LATER = ("frozen", "local")
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z")


@dataclass(frozen=True)
class Parameter:
    """A tensor of weights: its dotted name, shape and dtype (always `"float32"`)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator applied: `outputs` holds (dtype, shape) of each tensor that it gives, batch of one included."""

    name: str
    op: str
    args: tuple[Any, ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Graph:
    """A model over one record, checked when it is made.

    Args:
      parameters: trained and released, in the order of the model's own `named_parameters`.
      input_shape: of one record, without a batch dimension.
      nodes: in the order in which they run; named `n0`, `n1`, ...
      output: the node whose first dimension, the batch of one, is dropped to give the output.
      output_shape: of one record's output, without a batch dimension.
      frozen: public constants, in the same order.
      local: trained, and kept where they are, in the same order.

    Raises:
      GraphRefused: an operator, argument, size, dtype or name is not allowed; the message says which and the bound.
    """

    parameters: tuple[Parameter, ...]
    input_shape: tuple[int, ...]
    nodes: tuple[Node, ...]
    output: str
    output_shape: tuple[int, ...]
    frozen: tuple[Parameter, ...] = ()
    local: tuple[Parameter, ...] = ()

    def __post_init__(self) -> None:
        _check_parameters(self)
        _check_shape("input_shape", self.input_shape, MAX_RECORD_ELEMENTS)
        if not self.input_shape:
            raise GraphRefused("A record of shape () has no values. Give at least one column.")
        _check_nodes(self)

    @property
    def trained(self) -> tuple[Parameter, ...]:
        """All that have a gradient, released ones first."""
        return self.parameters + self.local

    @property
    def constants(self) -> tuple[Parameter, ...]:
        """All whose values are named by `public_weights`: frozen ones, and local ones as they begin."""
        return self.frozen + self.local

    @property
    def weights(self) -> tuple[Parameter, ...]:
        """All that the nodes may read: those that are trained, then the frozen ones."""
        return self.trained + self.frozen

    @property
    def parameter_count(self) -> int:
        """Elements over all parameters that are trained."""
        return sum(parameter.elements for parameter in self.trained)

    @property
    def frozen_count(self) -> int:
        """Elements over all that are not."""
        return sum(parameter.elements for parameter in self.frozen)

    @property
    def elements(self) -> int:
        """Elements of all intermediates of one record: what memory grows with."""
        return sum(math.prod(shape) for node in self.nodes for _, shape in node.outputs)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 over the canonical JSON of the graph."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, from which `Graph.from_dict` makes an equal graph. Parts that are empty are left out."""
        parts = {
            name: getattr(self, name) for name in ("parameters", *_LATER) if name not in _LATER or getattr(self, name)
        }
        return {
            **{
                name: [[parameter.name, list(parameter.shape), parameter.dtype] for parameter in part]
                for name, part in parts.items()
            },
            "input_shape": list(self.input_shape),
            "nodes": [
                [node.name, node.op, list(node.args), [[dtype, list(shape)] for dtype, shape in node.outputs]]
                for node in self.nodes
            ],
            "output": self.output,
            "output_shape": list(self.output_shape),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Graph:
        """The graph that `as_dict` wrote, checked in full. Raises `GraphRefused` whatever `data` is."""
        try:
            if set(data) - set(_LATER) != {"parameters", "input_shape", "nodes", "output", "output_shape"}:
                raise GraphRefused("A graph has parameters, input_shape, nodes, output and output_shape, no more.")
            parts = {name: data.get(name, ()) for name in ("parameters", *_LATER)}
            if len(data["nodes"]) > MAX_NODES or any(len(part) > MAX_TENSORS for part in parts.values()):
                raise GraphRefused(f"A graph has at most {MAX_NODES} nodes and {MAX_TENSORS} parameter tensors.")
            return cls(
                **{
                    part: tuple(Parameter(name, _shape(shape), dtype) for name, shape, dtype in listed)
                    for part, listed in parts.items()
                },
                input_shape=_shape(data["input_shape"]),
                nodes=tuple(
                    Node(name, op, tuple(args), tuple((dtype, _shape(shape)) for dtype, shape in outputs))
                    for name, op, args, outputs in data["nodes"]
                ),
                output=data["output"],
                output_shape=_shape(data["output_shape"]),
            )
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError):
            raise GraphRefused("This is not a graph as `Graph.as_dict` writes it.") from None


def _shape(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or len(values) > MAX_RANK:
        raise GraphRefused(f"A shape is a list of at most {MAX_RANK} sizes.")
    return tuple(values)


def _check_shape(what: str, shape: object, bound: int) -> int:
    """Raise unless `shape` is a tuple of sizes whose product is within `bound`; returns the product."""
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK:
        raise GraphRefused(f"{what} is not a shape of at most {MAX_RANK} dimensions.")
    if not all(type(size) is int and 0 < size <= bound for size in shape):
        raise GraphRefused(f"{what} has a size outside 1 to {bound:,}.")
    if math.prod(shape) > bound:
        raise GraphRefused(
            f"{what} has {math.prod(shape):,} elements where {bound:,} are allowed. Use a smaller model."
        )
    return math.prod(shape)


def _check_parameters(graph: Graph) -> None:
    parts = (graph.parameters, graph.frozen, graph.local)
    if not all(isinstance(part, tuple) and all(isinstance(one, Parameter) for one in part) for part in parts):
        raise GraphRefused("parameters is not a tuple of Parameter.")
    if not graph.parameters or len(graph.weights) > MAX_TENSORS:
        raise GraphRefused(
            f"A model has 1 to {MAX_TENSORS} parameter tensors, and at least one of them is trained and released, not"
            f" {len(graph.parameters)} of {len(graph.weights)}."
        )
    for parameter in graph.weights:
        if (
            not isinstance(parameter.name, str)
            or len(parameter.name) > 200
            or not _PARAMETER_NAME.match(parameter.name)
        ):
            raise GraphRefused(
                f"A parameter's name is not a dotted identifier of at most 200 letters: {parameter.name!r:.80}"
            )
        if parameter.dtype != "float32":
            raise GraphRefused(f"Parameter {parameter.name!r} is {parameter.dtype!r:.20}. Use float32.")
        bound = MAX_FROZEN if parameter in graph.frozen else MAX_PARAMETERS
        _check_shape(f"Parameter {parameter.name!r}", parameter.shape, bound)
    if len({parameter.name for parameter in graph.weights}) != len(graph.weights):
        raise GraphRefused("Two parameters have the same name.")
    if (total := graph.parameter_count) > MAX_PARAMETERS:
        raise GraphRefused(f"The model has {total:,} parameters where {MAX_PARAMETERS:,} are allowed. Use fewer units.")
    if (total := graph.frozen_count) > MAX_FROZEN:
        raise GraphRefused(f"{total:,} parameters are frozen where {MAX_FROZEN:,} are allowed. Use a smaller body.")


def _check_nodes(graph: Graph) -> None:
    if not isinstance(graph.nodes, tuple) or len(graph.nodes) > MAX_NODES:
        raise GraphRefused(
            f"The model has {len(graph.nodes):,} operators where {MAX_NODES:,} are allowed. Use fewer layers or steps."
        )
    parameters = {parameter.name: (("float32", parameter.shape),) for parameter in graph.weights}
    known: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {RECORD: (("float32", (1, *graph.input_shape)),)}
    several: set[str] = set()  # names of nodes that give several tensors: only getitem may read them
    total = 0
    for index, node in enumerate(graph.nodes):
        if not isinstance(node, Node) or node.name != f"n{index}":
            raise GraphRefused(f"Node {index} is not named n{index}.")
        operator = OPERATORS.get(node.op) if isinstance(node.op, str) else None
        if operator is None:
            raise GraphRefused(f"Operator {node.op!r:.60} is not allowed. Use layers of torch.nn that the guide lists.")
        total += _check_outputs(node, operator.outputs)
        inputs = []
        for reference in references(operator, node.args):
            table, name = (
                (parameters, reference["parameter"]) if "parameter" in reference else (known, reference["ref"])
            )
            if name not in table:
                raise GraphRefused(f"{node.op} in {node.name} reads {name!r:.60}, which is not made before it.")
            if (name in several and table is known) != (node.op == "getitem"):
                raise GraphRefused(f"{node.op} in {node.name} may not read {name!r:.60}.")
            inputs.append(table[name])
        check_arguments(operator, node.args, inputs, node.outputs, node.name)
        known[node.name] = node.outputs
        if operator.outputs != 1:
            several.add(node.name)
    if total > MAX_TOTAL_ELEMENTS:
        raise GraphRefused(f"One record needs {total:,} intermediate values where {MAX_TOTAL_ELEMENTS:,} are allowed.")
    if not isinstance(graph.output, str) or graph.output not in known or graph.output in several:
        raise GraphRefused(f"The output {graph.output!r:.60} is not one tensor of the graph.")
    if known[graph.output] != (("float32", (1, *graph.output_shape)),):
        raise GraphRefused(
            f"The output is {known[graph.output][0]}, not a float32 batch of one record of shape {graph.output_shape}. "
            "Return one float32 tensor whose first dimension is the batch."
        )


def _check_outputs(node: Node, wanted: int) -> int:
    """Raise unless the node's recorded outputs are `wanted` (0: any number) tensors within bounds; returns elements."""
    count = len(node.outputs) if isinstance(node.outputs, tuple) else 0
    if not 1 <= count <= MAX_NODES or (wanted and count != wanted):
        raise GraphRefused(f"{node.op} in {node.name} records {count} outputs.")
    total = 0
    for dtype, shape in node.outputs:
        if dtype not in DTYPES:
            raise GraphRefused(f"{node.op} in {node.name} gives {dtype!r:.20}. Use {', '.join(DTYPES)}.")
        total += _check_shape(f"{node.op} in {node.name}", shape, MAX_ELEMENTS)
    return total
