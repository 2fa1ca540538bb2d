"""Import and run once what jobs need, before the first is forked.

A confined child opens no file, so whatever it imports must be there; and it starts at once. The runner's parent imports
neither the exporter, in which a researcher's Python runs, nor any reader of tables: its model is a graph written here.
"""

from __future__ import annotations

import signal
from typing import Any

from policies.deferred_imports import without
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.schemas import Schema

SCHEMA = """
name = "warm"
population = "nobody"
patient = "patient"
target = "sick"
holdout = 0.3
columns.sick = { kind = "boolean" }
columns.a = { kind = "real", minimum = 0.0, maximum = 1.0 }
columns.b = { kind = "real", minimum = 0.0, maximum = 1.0 }
sequences.series = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]]
"""
MODEL = """
import torch
from torch import nn

class Warm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.norm, self.out = nn.LSTM(2, 3, batch_first=True), nn.GroupNorm(1, 3), nn.Linear(3, 1)

    def forward(self, x):
        return torch.sigmoid(self.out(self.norm(self.lstm(x)[0][:, -1])))
"""
HIDDEN = 3  # numbers that the recurrent cell keeps
_PARAMETERS = {
    "input": [4 * HIDDEN, 2], "hidden": [4 * HIDDEN, HIDDEN], "bias": [4 * HIDDEN], "norm.weight": [HIDDEN],
    "norm.bias": [HIDDEN], "out.weight": [1, HIDDEN], "out.bias": [1],
}  # fmt: skip


def import_what_both_need() -> None:
    """Torch, and what exporting a model and an optimizer of Opacus both import of it; nothing is run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch
    import torch._dynamo
    import torch.distributed.fsdp
    import torch.distributed.tensor

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers near zero take a hundred times longer, which would tell of a record


def warm_up(kind: str) -> None:
    """Import and run once, on zeros, all that jobs of `kind` need; keyed noise alone, and no randomness of others."""
    import_what_both_need()
    if kind == "exporter":
        _warm_exporter()
    else:
        _warm_runner()


def _warm_exporter() -> None:
    # Torch cuts graphs in parts with it, for compiled code that is to be short of memory; nothing is compiled here.
    with without(("networkx",)):
        from policies.graph.exporter import export_source

        export_source(MODEL, "Warm", (4, 2))


def _warm_runner() -> None:
    """Train and score once on a mock, under a constant key: imports and first calls, and no randomness."""
    import torch

    # Opacus attaches to models and accounts in ways that compute with scipy; here it takes and counts steps.
    with without(("scipy", "opacus.grad_sample", "opacus.privacy_engine")):
        import datasites.engine.analyses
        import datasites.engine.lanes.coverage
        import datasites.engine.statistics
        import datasites.engine.training
        import datasites.jobs.mock_run  # noqa: F401 - all for their jobs, which could not import them
    from datasites.engine import constant_time

    constant_time.install()
    from datasites.engine.evaluation import score_histogram
    from datasites.engine.lanes.readiness import prepare
    from datasites.engine.mock_rows import draw_mock
    from datasites.engine.noise import NoiseSource
    from datasites.engine.training import STEPS_WORTH_A_TAPE, train_round
    from policies.release.tensors import to_bytes

    schema, graph = Schema.from_toml(SCHEMA), recurrent_graph(steps=4)
    weights = {parameter.name: torch.zeros(parameter.shape) for parameter in graph.parameters}
    rows, constant = draw_mock(schema, 20), bytes(32)
    evaluation = Evaluation(loss="binary_cross_entropy", epsilon=1.0, inputs="series")
    # The first two train, and the first scores, with a place for each record, as what does not lower will; the last in
    # lanes, where they are.
    for optimizer in ("sgd", "adam", "sgd"):
        mechanism = DPSGD(
            loss="binary_cross_entropy",
            rounds=1,
            steps=STEPS_WORTH_A_TAPE,
            sampling_rate=0.5,
            clipping_norm=1.0,
            learning_rate=0.1,
            noise_multiplier=1.0,
            optimizer=optimizer,
            inputs="series",
        )
        train_round(graph, mechanism, schema, 10, rows, weights, NoiseSource(constant))
        if optimizer == "adam":
            to_bytes(score_histogram(graph, evaluation, schema, rows, weights, NoiseSource(constant)))
            prepare(graph, mechanism.loss)
    to_bytes(score_histogram(graph, evaluation, schema, rows, weights, NoiseSource(constant)))


def recurrent_graph(*, steps: int) -> Graph:
    """An LSTM over a series of pairs, group normalisation and one sigmoid output, as a graph of operators."""
    nodes: list[Any] = []

    def add(operator: str, arguments: list[Any], *shapes: list[int]) -> dict[str, str]:
        nodes.append([f"n{len(nodes)}", operator, arguments, [["float32", shape] for shape in shapes]])
        return {"ref": nodes[-1][0]}

    def linear(rows: dict[str, str], weight: str, bias: dict[str, str], sizes: tuple[int, int]) -> dict[str, str]:
        turned = add("permute", [{"parameter": weight}, [1, 0]], list(sizes))
        return add("addmm", [bias, rows, turned, 1, 1], [1, sizes[1]])

    state = [1, HIDDEN]
    hidden = cell = add("full", [state, 0, {"dtype": "float32"}], state)
    for step in range(steps):
        pair = add("select.int", [{"ref": "record"}, 1, step], [1, 2])
        from_pair = linear(pair, "input", {"parameter": "bias"}, (2, 4 * HIDDEN))
        both = linear(hidden, "hidden", from_pair, (HIDDEN, 4 * HIDDEN))
        parts = add("split_with_sizes", [both, [HIDDEN] * 4, 1], state, state, state, state)
        entry, forget, new, exit = (
            add(operator, [add("getitem", [parts, number], state)], state)
            for number, operator in enumerate(("sigmoid", "sigmoid", "tanh", "sigmoid"))
        )
        kept, added = add("mul.Tensor", [forget, cell], state), add("mul.Tensor", [entry, new], state)
        cell = add("add.Tensor", [kept, added, 1], state)
        hidden = add("mul.Tensor", [exit, add("tanh", [cell], state)], state)
    scale = [{"parameter": "norm.weight"}, {"parameter": "norm.bias"}]
    normed = add("native_group_norm", [hidden, *scale, 1, HIDDEN, 1, 1, 1e-5], state, [1, 1], [1, 1])
    output = linear(add("getitem", [normed, 0], state), "out.weight", {"parameter": "out.bias"}, (HIDDEN, 1))
    return Graph.from_dict(
        {
            "parameters": [[name, shape, "float32"] for name, shape in _PARAMETERS.items()],
            "input_shape": [steps, 2],
            "nodes": nodes,
            "output": add("sigmoid", [output], [1, 1])["ref"],
            "output_shape": [1],
        }
    )
