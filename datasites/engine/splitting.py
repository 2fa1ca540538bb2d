"""Cut a graph where its frozen body ends: what that computes of a record is the same at every step of a round.

The *body* is all that depends on a record and on frozen parameters alone; the *head* is the rest, a graph whose record
is what the body gives. Whether a round uses the cut is a public rule: of the graph, the mechanism, the schema's
`most_records_per_patient` and the published size. No row is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from policies.errors import GraphRefused
from policies.graph.graphs import MAX_PARAMETERS, RECORD, Graph, Node, Parameter
from policies.graph.operators import OPERATORS, references
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema

MOST_FLOATS = 2**28  # that a body's values may take for all records: 1 GiB


@dataclass(frozen=True)
class Split:
    """A graph in two, and how many records the body is computed of.

    Args:
      body: gives the cut's values, flat; its weights, in whatever part they are here, are frozen ones of the graph.
      head: takes them as its record; its trained parameters are the graph's, in the same order.
      slots: public: of no more records are values kept.
    """

    body: Graph
    head: Graph
    slots: int

    @property
    def width(self) -> int:
        """Numbers that the body gives of a record."""
        return math.prod(self.body.output_shape)


def split_for(graph: Graph, mechanism: DPSGD, schema: Schema, training_patients: int) -> Split | None:
    """How a round of `mechanism` cuts its graph; None where it computes everything at each step.

    So it does where nothing is frozen before what is trained, where a round samples fewer records than there may be,
    and where the values of so many would take more than `MOST_FLOATS`.

    Args:
      training_patients: the published number. There are more once in ten thousand times, by a few, since each patient
        is in training by the flip of a coin; those beyond are computed at each step.
    """
    if not graph.frozen:
        return None
    patients = training_patients + 4 * math.sqrt(training_patients * schema.holdout)
    slots = math.ceil(schema.most_records_per_patient * patients)
    if mechanism.sampling_rate * training_patients * mechanism.steps <= slots:
        return None
    parts = body_and_head(graph)
    if parts is None or slots * math.prod(parts[0].output_shape) > MOST_FLOATS:
        return None
    return Split(*parts, slots)


def body_and_head(graph: Graph) -> tuple[Graph, Graph] | None:
    """The two graphs, or None where no frozen parameter is used before a trained one.

    Head of body is the graph: the same operators on the same numbers, in the same order.
    """
    of_record, of_trained = _depending(graph)
    body = {node.name for node in graph.nodes if node.name in of_record and node.name not in of_trained}
    while True:
        head = [node for node in graph.nodes if node.name in of_record and node.name not in body]
        read = {name for node in head for kind, name in _reads(node) if kind == "ref"}
        cut = [node for node in graph.nodes if node.name in body & read]
        # What is kept of a record is float32: what is not is computed in the head.
        others = {node.name for node in cut if len(node.outputs) > 1 or node.outputs[0][0] != "float32"}
        if not others:
            break
        body -= others
    needed = _needed(graph, {node.name for node in cut})
    constants = {name for node in needed for kind, name in _reads(node) if kind == "parameter"}
    if not constants or graph.output in body:
        return None
    names = [*([RECORD] if RECORD in read else []), *(node.name for node in cut)]
    shapes = {RECORD: (1, *graph.input_shape)} | {node.name: node.outputs[0][1] for node in cut}
    try:
        return _body(graph, needed, constants, names, shapes), _head(graph, names, shapes)
    except GraphRefused:  # the cut is wider than a record may be
        return None


def _reads(node: Node) -> Iterable[tuple[str, str]]:
    """What a node reads, as ("ref", name) or ("parameter", name)."""
    return [next(iter(reference.items())) for reference in references(OPERATORS[node.op], node.args)]


def _depending(graph: Graph) -> tuple[set[str], set[str]]:
    """Names of nodes that depend on the record, and of those that depend on what is trained."""
    of_record: set[str] = {RECORD}
    of_trained: set[str] = set()
    trained = {parameter.name for parameter in graph.trained}
    for node in graph.nodes:
        for kind, name in _reads(node):
            if kind == "ref" and name in of_record:
                of_record.add(node.name)
            if name in (of_trained if kind == "ref" else trained):
                of_trained.add(node.name)
    return of_record, of_trained


def _needed(graph: Graph, wanted: set[str], *, but: Iterable[str] = ()) -> list[Node]:
    """The nodes that these are made of, in their order, down to those that are left out."""
    nodes, wanted, but = [], set(wanted), set(but)
    for node in reversed(graph.nodes):
        if node.name in wanted - but:
            nodes.append(node)
            wanted.update(name for kind, name in _reads(node) if kind == "ref")
    return nodes[::-1]


class _Nodes:
    """Nodes of a new graph, named in their order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.names = {RECORD: RECORD}

    def add(self, op: str, args: tuple[Any, ...], outputs: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, op, args, outputs))
        return name

    def take(self, nodes: Iterable[Node]) -> None:
        """Nodes of the old graph; what they read is already here."""
        for node in nodes:
            self.names[node.name] = self.add(node.op, tuple(self._renamed(value) for value in node.args), node.outputs)

    def shaped(self, source: str, shape: tuple[int, ...]) -> str:
        """What a node of this graph gives, in another shape."""
        return self.add("view", ({"ref": source}, list(shape)), (("float32", shape),))

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {"ref": self.names[value["ref"]]} if "ref" in value else value
        return [self._renamed(part) for part in value] if isinstance(value, list | tuple) else value


def _body(
    graph: Graph, needed: list[Node], constants: set[str], names: list[str], shapes: dict[str, tuple[int, ...]]
) -> Graph:
    made = _Nodes()
    made.take(needed)
    flat = [made.shaped(made.names[name], (1, math.prod(shapes[name]))) for name in names]
    width = sum(math.prod(shapes[name]) for name in names)
    output = flat[0]
    if len(flat) > 1:
        output = made.add("cat", ([{"ref": name} for name in flat], 1), (("float32", (1, width)),))
    read = [parameter for parameter in graph.frozen if parameter.name in constants]
    weights, frozen = _in_bounds(read)
    return Graph(weights, graph.input_shape, tuple(made.nodes), output, (width,), frozen)


def _in_bounds(read: list[Parameter]) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
    """A body's weights as a graph takes them: as parameters, of which there is one at least, or most as constants."""
    if sum(parameter.elements for parameter in read) <= MAX_PARAMETERS:
        return tuple(read), ()
    smallest = min(read, key=lambda parameter: parameter.elements)
    return (smallest,), tuple(parameter for parameter in read if parameter is not smallest)


def _head(graph: Graph, names: list[str], shapes: dict[str, tuple[int, ...]]) -> Graph:
    made, width, begin = _Nodes(), sum(math.prod(shapes[name]) for name in names), 0
    at: dict[str, str] = {}
    for name in names:
        shape, size = shapes[name], math.prod(shapes[name])
        part = RECORD
        if size < width:
            part = made.add("slice.Tensor", ({"ref": RECORD}, 1, begin, begin + size, 1), (("float32", (1, size)),))
        at[name] = part if shape == (1, size) else made.shaped(part, shape)
        begin += size
    made.names.update(at)
    if RECORD not in names:
        del made.names[RECORD]
    nodes = _needed(graph, {graph.output}, but=names)
    made.take(nodes)
    read = {name for node in nodes for kind, name in _reads(node) if kind == "parameter"}
    frozen = tuple(parameter for parameter in graph.frozen if parameter.name in read)
    output = made.names[graph.output]
    return Graph(graph.parameters, (width,), tuple(made.nodes), output, graph.output_shape, frozen, graph.local)
