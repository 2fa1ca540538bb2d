"""Scores in lanes are the model's own, and a record's are a function of that record alone, to the bit."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from datasites.engine import evaluation
from datasites.engine.evaluation import score_histogram
from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled, scores
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.lowering import lowered_scores
from datasites.engine.lanes.scores import LaneScores
from datasites.engine.lanes.sums import MOST_RECORDS
from datasites.engine.lanes.verifier import ProgramRefused, Verified, verified
from datasites.engine.losses import record_scores
from policies.errors import DatasiteError
from policies.graph.graphs import Graph, Node, Parameter
from policies.graph.operators import OPERATORS
from tests.datasites.engine.lanes.models import HOSTILE, LOGITS, MODELS, graph_of, weights_of
from tests.datasites.engine.lanes.test_hold import SIZES, hostile_records, hostile_weights
from tests.datasites.engine.training_factories import Plain, Sigmoid, exported, matrix, schema, source
from tests.datasites.engine.training_factories import evaluation as asked
from tests.timing import unevenness

Floats = npt.NDArray[np.float32]


@cache
def checked(name: str) -> Verified:
    return verified(lowered_scores(graph_of(name), (MODELS | HOSTILE)[name][2])[0])


def by_name(name: str, weights: Floats) -> dict[str, Tensor]:
    graph = graph_of(name)
    parts = torch.split(torch.from_numpy(weights), [math.prod(p.shape) for p in graph.parameters])
    return {p.name: part.view(p.shape) for p, part in zip(graph.parameters, parts, strict=True)}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_torch(name: str, kernels: Kernels) -> None:
    graph, weights = graph_of(name), weights_of(name)
    inputs = np.random.default_rng(1).uniform(-1, 1, (40, math.prod(graph.input_shape))).astype(np.float32)
    found, sound = LaneScores(checked(name), kernels, weights).of(inputs)
    run, loss = forward(graph), MODELS[name][2]
    for record, given in zip(torch.from_numpy(inputs), found, strict=True):
        expected = record_scores(run(by_name(name, weights), record.view(graph.input_shape)), loss)
        assert torch.allclose(torch.from_numpy(given), expected, atol=2e-5)
    assert sound.all()


@pytest.mark.parametrize("name", [*MODELS, *HOSTILE])
def test_company_order_and_number_change_no_bit_of_a_score(name: str, kernels: Kernels) -> None:
    rng, features, base = np.random.default_rng(6), checked(name).program.features, weights_of(name)
    for _ in range(6):
        lanes = LaneScores(checked(name), kernels, hostile_weights(rng, base))
        count = int(rng.choice(SIZES))
        inputs = hostile_records(rng, count, features)
        together, sound = lanes.of(inputs)
        order, record = rng.permutation(count), int(rng.integers(count))
        turned, of_turned = lanes.of(inputs[order])
        alone, of_alone = lanes.of(inputs[[record]])
        assert np.array_equal(turned.view(np.int32), together[order].view(np.int32))
        assert np.array_equal(alone[0].view(np.int32), together[record].view(np.int32))
        assert np.array_equal(of_turned, sound[order])
        assert of_alone[0] == sound[record]


def test_any_number_of_records_is_scored_in_parts(kernels: Kernels) -> None:
    lanes = LaneScores(checked("two layers"), kernels, weights_of("two layers"))
    inputs = np.random.default_rng(2).uniform(-1, 1, (2 * MOST_RECORDS + 5, 10)).astype(np.float32)
    whole, _ = lanes.of(inputs)
    assert lanes.most == MOST_RECORDS
    for begin in (0, 1000, 2020):
        assert np.array_equal(lanes.of(inputs[begin : begin + 1])[0][0], whole[begin])
    assert lanes.of(inputs[:0])[0].shape == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tables", "order", "circle"])
def test_no_value_moves_the_time_of_a_score(name: str, kernels: Kernels) -> None:
    """Nor that of a lookup or an order, which torch takes 2 to 10 times as long for on some values."""
    lanes = LaneScores(checked(name), kernels, weights_of(name))
    inputs = np.random.default_rng(3).uniform(-1, 1, (512, checked(name).program.features)).astype(np.float32)
    given = {
        "any": inputs, "zeros": inputs * 0, "sorted": np.sort(inputs, axis=1), "huge": inputs * np.float32(1e30),
        "NaN": np.full_like(inputs, np.nan),
    }  # fmt: skip
    assert unevenness(lanes.of, given, even=1.1, most_turns=90) < 1.2


# -- functions of one number and of two, where they have no ordinary value

EDGES = (
    *(0.0, 0.3, -0.3, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.0, 2.5, -2.5, 3.0, -3.0, 7.25, 20.0, -20.0, 90.0, -90.0),
    *(1e-6, -1e-6, 1e-20, 8e6, -8e6, 1e10, -1e10, 3e38, -3e38, math.inf, -math.inf, math.nan),
)
AROUND_ZERO = ("erfc", "sin", "cos", "tan")  # compared by their distance: sums of terms cancel
FAR = 1e5  # from here on torch brings an angle near in other arithmetic


def graph_of_operator(
    name: str, arguments: list[Any], outputs: str = "float32", shape: tuple[int, ...] = (1, 1)
) -> Graph:
    """The operator on a record of one or two numbers, plus a parameter that is zero."""
    record, one = {"ref": "record"}, (1, 1)
    nodes = [Node("n0", "slice.Tensor", (record, 1, 0, 1, 1), (("float32", one),))]
    nodes.append(Node("n1", "slice.Tensor", (record, 1, 1, 2, 1), (("float32", one),)))
    given = tuple({"ref": value} if value in ("n0", "n1") else value for value in arguments)
    nodes.append(Node("n2", name, given, ((outputs, shape),)))
    nodes.append(Node("n3", "add.Tensor", ({"ref": "n2"}, {"parameter": "w"}, 1), (("float32", one),)))
    return Graph((Parameter("w", (1, 1)),), (2,), tuple(nodes), "n3", (1,))


def alone(name: str) -> list[Any]:
    arguments: dict[str, list[Any]] = {
        "clamp": ["n0", -0.5, 2.5], "elu": ["n0", 1.0, 1.0, 1.0], "gelu": ["n0", "none"], "hardtanh": ["n0", -1, 1],
        "leaky_relu": ["n0", 0.1],
    }  # fmt: skip
    return arguments.get(name, ["n0"])


OF_ONE = [name for name, operator in OPERATORS.items() if len(operator.arguments) == 1 and name != "bitwise_not"]
CASES: dict[str, tuple[str, list[Any], str]] = {
    **{name: (name, alone(name), "float32") for name in (*OF_ONE, "clamp", "elu", "gelu", "hardtanh", "leaky_relu")},
    **{name: (name, ["n0"], "bool") for name in ("isinf", "isnan", "logical_not")},
    **{f"to the {exponent}": ("pow.Tensor_Scalar", ["n0", exponent], "float32") for exponent in (-2, -0.5, 0, 3, 2.3)},
    **{f"{base} to the": ("pow.Scalar", [base, "n0"], "float32") for base in (0.5, 2, 10)},
    "power": ("pow.Tensor_Tensor", ["n0", "n1"], "float32"),
    **{f"{name} {by}": (f"{name}.Scalar", ["n0", by], "float32") for name in ("fmod", "remainder") for by in (0.7, -2)},
    **{name: (name, ["n0", "n1"], "float32") for name in ("atan2", "maximum", "minimum")},
    **{f"clamp {name}": ("clamp.Tensor", given, "float32") for name, given in
       {"both": ["n0", "n1", "n1"], "below": ["n0", "n1", None], "above": ["n0", None, "n1"]}.items()},
    **{f"logical_{name}": (f"logical_{name}", ["n0", "n1"], "bool") for name in ("and", "or", "xor")},
    **{f"{name}.Tensor": (f"{name}.Tensor", ["n0", "n1"], "bool") for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "to whole": ("_to_copy", ["n0", {"dtype": "int64"}], "int64"),
    "to flag": ("_to_copy", ["n0", {"dtype": "bool"}], "bool"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_a_function_has_torchs_values_at_its_edges_too(case: str, kernels: Kernels) -> None:
    name, arguments, outputs = CASES[case]
    graph = graph_of_operator(name, arguments, outputs)
    program = verified(lowered_scores(graph, "binary_cross_entropy")[0])
    pairs = np.array([(x, z) for x in EDGES for z in EDGES], np.float32)
    found, sound = LaneScores(program, kernels, np.zeros(1, np.float32)).of(pairs)
    run = forward(graph)
    for (x, z), value, fine in zip(pairs, found[:, 0], sound, strict=True):
        expected = float(run({"w": torch.zeros(1, 1)}, torch.tensor([x, z])))
        assert fine == math.isfinite(expected) or abs(expected) > 1e38, (case, x, z, value, expected)
        if not fine or (name in ("sin", "cos", "tan") and abs(x) > FAR):
            continue
        near = 1e-6 if name in AROUND_ZERO else 1e-30
        assert math.isclose(value, expected, rel_tol=5e-5, abs_tol=near), (case, x, z, value, expected)


# -- the histogram


@pytest.fixture
def lanes(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Score in lanes in this test; gives how many records were."""
    seen: list[int] = []
    original = LaneScores.of

    def watch(self: LaneScores, inputs: Floats) -> Any:
        seen.append(len(inputs))
        return original(self, inputs)

    monkeypatch.setattr(compiled, "_loaded", kernels)
    monkeypatch.setattr(LaneScores, "of", watch)
    return seen


@pytest.mark.parametrize(
    ("model", "loss", "classes"),
    [
        (Sigmoid, "binary_cross_entropy", 2),
        (Plain, LOGITS, 2),
        (Plain, "cross_entropy", 2),
        (Plain, "cross_entropy", 4),
    ],
)
def test_a_histogram_in_lanes_is_the_former_one_but_at_the_edges_of_bins(
    model: Any, loss: str, classes: int, lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights = exported(model, classes) if loss == "cross_entropy" else exported(model)
    table, made = matrix(5000, classes=classes, held_out=4000), asked(loss=loss, bins=20)
    given = (graph, made, schema(classes), table, weights)
    one = score_histogram(*given, source())["scores"]
    assert sum(lanes) == 4002  # and the two records of the check beforehand
    monkeypatch.setattr(compiled, "_loaded", None)
    two = score_histogram(*given, source())["scores"]
    assert np.abs(one - two).sum() <= 4  # records whose score is rounded to the other side of an edge
    assert one.sum() == two.sum()


def test_a_histogram_in_lanes_is_the_sum_of_its_patients(lanes: list[int]) -> None:
    graph, weights = exported(Plain)
    steep = {name: value * 40 for name, value in weights.items()}
    table, made = matrix(40, held_out=40), asked(loss=LOGITS, bins=1000)

    def counted(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        none = score_histogram(graph, made, schema(), rows[:0], steep, source())["scores"]
        return score_histogram(graph, made, schema(), rows, steep, source())["scores"] - none

    assert np.array_equal(counted(table), sum(counted(table[[i]]) for i in range(40)))
    assert len(lanes) > 40


@pytest.mark.parametrize("fault", [NotLowered, IndexError, MemoryError, RecursionError])
def test_a_fault_of_the_lowering_costs_speed_and_no_evaluation(
    fault: type[Exception], lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise fault("It is a fault.")

    graph, weights = exported(Sigmoid)
    monkeypatch.setattr(scores, "lowered_scores", fails)
    found = score_histogram(graph, asked(epsilon=100.0), schema(), matrix(60, held_out=25), weights, source())
    assert found["scores"].sum() == 25
    assert not lanes


def test_the_graph_alone_decides_how_a_model_is_scored(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = exported(Sigmoid)
    monkeypatch.setattr(compiled, "_loaded", kernels)
    monkeypatch.setattr(evaluation, "scores_for", lambda *_, **__: (_ for _ in ()).throw(KeyError()))
    with pytest.raises(KeyError):
        score_histogram(graph, asked(), schema(), None, weights, source())  # type: ignore[arg-type]


def test_a_program_that_scores_otherwise_than_torch_is_not_taken(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights = exported(Sigmoid)
    assert scores.made_for(graph, "binary_cross_entropy", weights, kernels).most
    original = LaneScores.of
    monkeypatch.setattr(LaneScores, "of", lambda self, inputs: (original(self, inputs)[0] + 0.01, np.array([True])))
    with pytest.raises(NotLowered, match="another score"):
        scores.made_for(graph, "binary_cross_entropy", weights, kernels)


def test_what_scores_are_read_from_is_verified(kernels: Kernels) -> None:
    program = checked("two layers").program
    for address in (0, program.scratch + program.own, -16, program.terms[0, 0] + 1):
        terms = program.terms.copy()
        terms[0, 0] = address
        with pytest.raises(ProgramRefused):
            verified(replace(program, terms=terms))
    for changes in ({"outputs": 2**20}, {"outputs": -1}, {"groups": np.zeros((1, 6), np.int64)}, {"outputs": 0}):
        with pytest.raises(ProgramRefused):
            verified(replace(program, **changes))
    with pytest.raises(DatasiteError, match="as many float32 weights"):
        LaneScores(checked("two layers"), kernels, np.zeros(3, np.float32))
