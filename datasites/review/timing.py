"""How much longer a model may take on some records than on others: a public figure of its graph.

In lanes no value moves a record's time. Where torch computes, most operators take the same time whatever they are
given; `engine.constant_time` sees to the elementary functions. A few do not, and a hostile model makes the difference
with the patients that it asks about. What a dry run on synthetic rows took is multiplied by this figure before a
round's time is made of it, so that values move a round within its own time alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from policies.graph.graphs import RECORD, Graph, Node
from policies.graph.operators import OPERATORS, references

SLOWEST = {
    "sort": 10.0,  # of values in order and out of order
    "topk": 10.0,
    "max.dim": 20.0,  # both end at the first NaN
    "min.dim": 20.0,
    "fmod.Scalar": 10.0,
    "remainder.Scalar": 10.0,
    "asinh": 7.0,
    "acosh": 6.0,
    "max_pool2d_with_indices": 3.0,
    "adaptive_max_pool2d": 3.0,
    "argmax": 2.0,
    "argmin": 2.0,
    "where.self": 1.5,  # of a condition that is the same throughout, and by turns
}
"""Time on the slowest values over time on the fastest, as measured and rounded up; 1 of every other operator."""

LOOKED_UP = 10.0  # of indices all over a table that no cache holds
CACHED = 2**15  # numbers of a table that every cache holds


def slowest(graph: Graph) -> float:
    """The largest figure of the operators that work on what comes of the record; 1 where there is none."""
    from_record = {RECORD}
    found = 1.0
    for node in graph.nodes:
        if from_record.isdisjoint(_read(node)):
            continue
        from_record.add(node.name)
        found = max(found, SLOWEST.get(node.op, 1.0), _lookup(graph, node))
    return found


def _read(node: Node) -> Iterator[str]:
    return (each["ref"] for each in references(OPERATORS[node.op], node.args) if "ref" in each)


def _lookup(graph: Graph, node: Node) -> float:
    if node.op not in ("embedding", "index_select"):
        return 1.0
    ((kind, name),) = node.args[0].items()
    if kind == "parameter":
        shape = next(each.shape for each in graph.weights if each.name == name)
    elif name == RECORD:
        shape = graph.input_shape
    else:
        shape = next(each.outputs[0][1] for each in graph.nodes if each.name == name)
    return LOOKED_UP if math.prod(shape) > CACHED else 1.0
