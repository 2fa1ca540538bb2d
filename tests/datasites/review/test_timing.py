"""How much longer a model may take on some records: a figure of the graph alone."""

from __future__ import annotations

from typing import Any

import pytest

from datasites.review.timing import CACHED, LOOKED_UP, SLOWEST, slowest
from policies.graph.graphs import Graph
from policies.graph.operators import OPERATORS
from tests.policies.plan_factories import LINEAR


def slowness(*nodes: list[Any], parameters: list[Any] | None = None) -> float:
    """Of a graph with these nodes, and a sum behind them, which is what leaves."""
    out = f"n{len(nodes)}"
    graph = {
        "parameters": parameters or [["weight", [3], "float32"]],
        "input_shape": [3],
        "nodes": [*nodes, [out, "sum.dim_IntList", [{"ref": nodes[-1][0]}, [1], False, None], [["float32", [1]]]]],
        "output": out,
        "output_shape": [],
    }
    return slowest(Graph.from_dict(graph))


SHAPE = [["float32", [1, 3]]]


def test_a_model_that_takes_as_long_whatever_it_is_given_has_one() -> None:
    assert slowest(LINEAR) == 1.0


@pytest.mark.parametrize("op", ["asinh", "acosh"])
def test_an_operator_on_the_record_counts_with_its_own_figure(op: str) -> None:
    assert slowness(["n0", op, [{"ref": "record"}], SHAPE]) == SLOWEST[op] > 1


def test_what_comes_of_the_record_counts_and_parameters_alone_do_not() -> None:
    on_parameter = ["n0", "asinh", [{"parameter": "weight"}], [["float32", [3]]]]
    joined = ["n1", "add.Tensor", [{"ref": "record"}, {"ref": "n0"}, 1], SHAPE]
    after = ["n2", "acosh", [{"ref": "n1"}], SHAPE]
    assert slowness(on_parameter, joined) == 1.0
    assert slowness(on_parameter, joined, after) == SLOWEST["acosh"]


def test_the_slowest_operator_is_the_figure() -> None:
    first = ["n0", "acosh", [{"ref": "record"}], SHAPE]
    second = ["n1", "asinh", [{"ref": "n0"}], SHAPE]
    third = ["n2", "acosh", [{"ref": "n1"}], SHAPE]
    assert slowness(first, second, third) == SLOWEST["asinh"] > SLOWEST["acosh"]


@pytest.mark.parametrize(("rows", "figure"), [(CACHED, 1.0), (CACHED + 1, LOOKED_UP)])
def test_a_look_up_counts_where_no_cache_holds_its_table(rows: int, figure: float) -> None:
    index = ["n0", "_to_copy", [{"ref": "record"}, {"dtype": "int64"}], [["int64", [1, 3]]]]
    lookup = ["n1", "embedding", [{"parameter": "table"}, {"ref": "n0"}], [["float32", [1, 3, 1]]]]
    flat = ["n2", "squeeze.dim", [{"ref": "n1"}, 2], SHAPE]
    assert slowness(index, lookup, flat, parameters=[["table", [rows, 1], "float32"]]) == figure


def test_every_figure_is_of_an_operator_that_there_is() -> None:
    assert set(SLOWEST) <= set(OPERATORS)
    assert all(figure > 1 for figure in SLOWEST.values())
