"""A graph is data: what is not allowed is refused when it is made or read, whoever wrote it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from policies.errors import GraphRefused
from policies.graph.graphs import MAX_NODES, Graph

# x @ w + b over three columns, then two halves of it added: every shape of reference is in it.
LINEAR: dict[str, Any] = {
    "parameters": [["w", [2, 3], "float32"], ["b", [2], "float32"]],
    "input_shape": [3],
    "nodes": [
        ["n0", "permute", [{"parameter": "w"}, [1, 0]], [["float32", [3, 2]]]],
        ["n1", "addmm", [{"parameter": "b"}, {"ref": "record"}, {"ref": "n0"}, 1, 1], [["float32", [1, 2]]]],
        ["n2", "split_with_sizes", [{"ref": "n1"}, [1, 1], 1], [["float32", [1, 1]], ["float32", [1, 1]]]],
        ["n3", "getitem", [{"ref": "n2"}, 0], [["float32", [1, 1]]]],
        ["n4", "getitem", [{"ref": "n2"}, 1], [["float32", [1, 1]]]],
        ["n5", "cat", [[{"ref": "n3"}, {"ref": "n4"}], 1], [["float32", [1, 2]]]],
    ],
    "output": "n5",
    "output_shape": [2],
}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    data = copy.deepcopy(LINEAR)
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return data


def test_a_graph_is_written_and_read_through_json() -> None:
    graph = Graph.from_dict(LINEAR)
    assert graph.as_dict() == LINEAR
    again = Graph.from_dict(json.loads(json.dumps(graph.as_dict())))
    assert again == graph
    assert again.digest == graph.digest
    assert graph.parameter_count == 2 * 3 + 2


def test_the_digest_changes_with_every_part() -> None:
    graph = Graph.from_dict(LINEAR)
    assert Graph.from_dict(changed("nodes", 1, 2, 4, to=2)).digest != graph.digest
    assert (
        Graph.from_dict(
            changed("parameters", 0, 0, to="b2")
            | {"nodes": [["n0", "permute", [{"parameter": "b2"}, [1, 0]], [["float32", [3, 2]]]], *LINEAR["nodes"][1:]]}
        ).digest
        != graph.digest
    )


REFUSED = {
    "not a dictionary": 7,
    "a list": [],
    "a missing part": {key: value for key, value in LINEAR.items() if key != "output"},
    "another part": {**LINEAR, "code": "import os"},
    "an unknown operator": changed("nodes", 0, 1, to="rand_like"),
    "an operator's path": changed("nodes", 0, 1, to="aten.permute.default"),
    "an operator that is no text": changed("nodes", 0, 1, to=["permute"]),
    "an in-place operator": changed("nodes", 0, 1, to="add_.Tensor"),
    "too few arguments": changed("nodes", 0, 2, to=[{"parameter": "w"}]),
    "a number for a tensor": changed("nodes", 0, 2, 0, to=3),
    "a tensor for a number": changed("nodes", 1, 2, 4, to={"ref": "n0"}),
    "a text for a list": changed("nodes", 0, 2, 1, to="10"),
    "a bool for a size": changed("nodes", 0, 2, 1, to=[True, False]),
    "a reference ahead": changed("nodes", 0, 2, 0, to={"ref": "n5"}),
    "a reference to nothing": changed("nodes", 0, 2, 0, to={"parameter": "v"}),
    "a reference with more": changed("nodes", 0, 2, 0, to={"parameter": "w", "ref": "n0"}),
    "several tensors as one": changed("nodes", 5, 2, 0, to=[{"ref": "n2"}]),
    "an item of one tensor": changed("nodes", 3, 2, 0, to={"ref": "n1"}),
    "an item that does not exist": changed("nodes", 3, 2, 1, to=2),
    "a huge constant": changed("nodes", 1, 2, 4, to=1e10),
    "an infinite constant": changed("nodes", 1, 2, 4, to=float("inf")),
    "a written infinity": changed("nodes", 1, 2, 4, to={"number": "inf"}),
    "a constant that is no number": changed("nodes", 1, 2, 4, to=float("nan")),
    "a huge size": changed("nodes", 0, 2, 1, to=[2**40, 0]),
    "another dtype": changed("nodes", 0, 3, to=[["float64", [3, 2]]]),
    "a huge intermediate": changed("nodes", 0, 3, to=[["float32", [3000, 3000]]]),
    "a negative shape": changed("nodes", 0, 3, to=[["float32", [-3, 2]]]),
    "a shape of floats": changed("nodes", 0, 3, to=[["float32", [3.0, 2]]]),
    "many dimensions": changed("nodes", 0, 3, to=[["float32", [1] * 9]]),
    "two outputs of one": changed("nodes", 0, 3, to=[["float32", [3, 2]]] * 2),
    "another name": changed("nodes", 0, 0, to="n7"),
    "a double parameter": changed("parameters", 0, 2, to="float64"),
    "a huge parameter": changed("parameters", 0, 1, to=[3000, 3000]),
    "a parameter's odd name": changed("parameters", 0, 0, to="../w"),
    "two parameters of a name": changed("parameters", 1, 0, to="w"),
    "no parameters": {**LINEAR, "parameters": []},
    "many parameters": {**LINEAR, "parameters": [[f"w{i}", [1], "float32"] for i in range(201)]},
    "no columns": {**LINEAR, "input_shape": []},
    "an output that does not exist": {**LINEAR, "output": "n6"},
    "several outputs": {**LINEAR, "output": "n2"},
    "an output of another shape": {**LINEAR, "output_shape": [3]},
    "many nodes": {**LINEAR, "nodes": [["n0", "relu", [{"ref": "record"}], [["float32", [1, 3]]]]] * (MAX_NODES + 1)},
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    with pytest.raises(GraphRefused):
        Graph.from_dict(REFUSED[name])


def test_nested_data_is_refused_without_exhausting_the_stack() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(GraphRefused):
        Graph.from_dict(changed("nodes", 0, 2, 1, to=deep))


def test_integer_operators_may_not_divide_by_zero() -> None:
    node = ["n6", "remainder.Scalar", [{"ref": "n5"}, 0], [["float32", [1, 2]]]]
    with pytest.raises(GraphRefused, match="divides by zero"):
        Graph.from_dict({**LINEAR, "nodes": [*LINEAR["nodes"], node]})
