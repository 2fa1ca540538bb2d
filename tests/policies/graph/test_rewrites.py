"""Operators in other words give torch's own values and gradients, and what they cannot give they leave alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from datasites.engine.interpreter import forward
from policies.errors import GraphRefused
from policies.graph.exporter import export_model
from policies.graph.operators import OPERATORS
from policies.graph.rewrites import REWRITES

SHAPE = (5, 4)

Function = Callable[[Tensor], Tensor]


class Calls(nn.Module):
    """The function of a record times one weight, so that there is something to train."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.tensor(1.25))
        self.table = PADDED

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.weight).flatten(1)


def put(x: Tensor) -> Tensor:
    h = x.clone()
    h[h < 0] = 0.5
    return h


def code(x: Tensor) -> Tensor:
    return (x.abs() * 4).long().clamp(0, 4)


def volume(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 5, 2, 2)


TABLE = torch.linspace(-1, 1, 15).reshape(5, 3)
PADDED = nn.Embedding(5, 3, padding_idx=1)
# By operator, what a model may write. A name in brackets is a case of its own.
CASES: dict[str, Function] = {
    "_cdist_forward": lambda x: torch.cdist(x, x.flip(1)),
    "_cdist_forward (p=1)": lambda x: torch.cdist(x, x.flip(1), p=1.0),
    "_embedding_bag_forward_only": lambda x: nn.functional.embedding_bag(code(x[:, 1]), TABLE) * x[:, :3, 0],
    "_embedding_bag": lambda x: (
        nn.functional.embedding_bag(code(x[:, 0]), nn.Parameter(TABLE), mode="sum") * x[:, :3, 0]
    ),
    "_embedding_bag (mean)": lambda x: nn.functional.embedding_bag(code(x[:, 0]), TABLE, mode="mean") * x[:, :3, 0],
    "_embedding_bag (max)": lambda x: nn.functional.embedding_bag(code(x[:, 0]), TABLE, mode="max") * x[:, :3, 0],
    "_embedding_bag (weights)": lambda x: nn.functional.embedding_bag(
        code(x[:, 0]), TABLE, mode="sum", per_sample_weights=x[:, 1]
    ),
    "_embedding_bag (padding)": lambda x: (
        nn.functional.embedding_bag(code(x[:, 0]), TABLE, mode="mean", padding_idx=1) * x[:, :3, 0]
    ),
    "_native_batch_norm_legit.no_stats": lambda x: nn.functional.instance_norm(x),
    "_trilinear": lambda x: nn.functional.bilinear(x[:, 0], x[:, 1], torch.linspace(-1, 1, 32).reshape(2, 4, 4)),
    "avg_pool3d": lambda x: nn.functional.avg_pool3d(volume(x), (2, 2, 1), stride=(1, 2, 1), padding=(1, 0, 0)),
    "cummax": lambda x: torch.cummax(x, 1).values,
    "cummax (places)": lambda x: x + torch.cummax(x, 1).indices,
    "cummin": lambda x: x.cummin(dim=-1).values,
    "cumprod": lambda x: torch.cumprod(x, 1),
    "diagonal": lambda x: torch.diagonal(x, offset=-1, dim1=1, dim2=2),
    "diagonal (above)": lambda x: x.diagonal(1, -2, -1),
    "div.Scalar_mode": lambda x: x + torch.div(x, 0.3, rounding_mode="trunc"),
    "div.Tensor_mode": lambda x: x + torch.div(x, 0.3, rounding_mode="floor"),
    "div.Tensor_mode (below zero)": lambda x: x + torch.div(x, -0.7, rounding_mode="floor"),
    "embedding": lambda x: PADDED(code(x[:, 0])) * x[:, :4, :3],
    "eye": lambda x: x @ torch.eye(4),
    "eye.m": lambda x: x @ torch.eye(4, 3),
    "gather": lambda x: x.gather(1, code(x)),
    "gather (fewer)": lambda x: x.gather(2, code(x)[:, :3, :2].clamp(max=3)),
    "index.Tensor": lambda x: x[:, [0, -1, 2]],
    "index.Tensor (two)": lambda x: x[torch.arange(x.shape[0]), code(x[:, 0])[:, 0]],
    "index.Tensor (a square)": lambda x: x[:, torch.tensor([[0, 1], [4, 3]])],
    "index_put": put,
    "kthvalue": lambda x: torch.kthvalue(x, 2, dim=1).values,
    "logcumsumexp": lambda x: torch.logcumsumexp(x, 1),
    "max_pool3d_with_indices": lambda x: nn.functional.max_pool3d(volume(x), 2, stride=1),
    "max_pool3d_with_indices (ties)": lambda x: nn.functional.max_pool3d(volume(x.relu()), 2, stride=1, padding=1),
    "median.dim": lambda x: x.median(1, keepdim=True).values,
    "median.dim (even)": lambda x: x.median(2).values,
    "nan_to_num": lambda x: torch.nan_to_num(x / (x > 0), nan=0.5, posinf=2.0, neginf=-3.0),
    "rsub.Scalar": lambda x: 1 - x,
    "rsub.Scalar (alpha)": lambda x: torch.rsub(x, 2, alpha=3),
    "scatter.src": lambda x: torch.zeros_like(x).scatter(1, code(x)[:, :1], x[:, 1:2]),
    "scatter.value": lambda x: x.scatter(1, code(x)[:, :2], 0.25),
    "unfold": lambda x: x.unfold(1, 3, 2),
    "unfold (last)": lambda x: x.unfold(-1, 2, 1),
    "upsample_bilinear2d.vec": lambda x: nn.functional.interpolate(x.unsqueeze(1), scale_factor=2, mode="bilinear"),
    "upsample_bilinear2d.vec (corners)": lambda x: nn.functional.interpolate(
        x.unsqueeze(1), size=(7, 3), mode="bilinear", align_corners=True
    ),
    "upsample_bilinear2d.vec (smaller)": lambda x: nn.functional.interpolate(
        x.unsqueeze(1), size=(3, 9), mode="bilinear"
    ),
    "upsample_nearest2d.vec": lambda x: nn.functional.interpolate(x.unsqueeze(1), scale_factor=(3, 2)),
    "upsample_nearest2d.vec (size)": lambda x: nn.Upsample(size=(5, 12))(x.unsqueeze(1)),
    "var_mean.correction": lambda x: torch.cat(torch.var_mean(x, dim=1), 1),
    "var_mean.correction (biased)": lambda x: torch.stack(torch.var_mean(x, dim=(1, 2), unbiased=False), 1),
}


def test_every_operator_that_is_written_otherwise_is_tried() -> None:
    names = {str(operator).removeprefix("aten.").removesuffix(".default") for operator in REWRITES}
    assert names == {name.partition(" ")[0] for name in CASES}
    assert not names & (set(OPERATORS) - {"embedding"})


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_torch(name: str) -> None:
    model = Calls(CASES[name])
    graph = export_model(model, SHAPE)
    run, weights = forward(graph), {name: value.detach() for name, value in model.named_parameters()}
    records = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found = vmap(run, in_dims=(None, 0))(weights, records)
    torch.testing.assert_close(found, model(records).detach(), rtol=1e-5, atol=1e-6)

    def loss(weights: dict[str, Tensor], record: Tensor) -> Tensor:
        return run(weights, record).sin().sum()

    slopes = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0))(weights, records)
    leaf = records.clone().requires_grad_()
    for record in range(3):
        model.zero_grad()
        leaf.grad = None
        model(leaf[record : record + 1]).sin().sum().backward()
        assert model.weight.grad is not None
        assert leaf.grad is not None
        torch.testing.assert_close(slopes[0]["weight"][record], model.weight.grad, rtol=1e-3, atol=1e-4, equal_nan=True)
        torch.testing.assert_close(slopes[1][record], leaf.grad[record], rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_no_value_of_a_record_makes_it_fail_or_reaches_another(name: str) -> None:
    model = Calls(CASES[name])
    run = forward(export_model(model, SHAPE))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    records = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    slope = vmap(grad(lambda weights, record: run(weights, record).sum()), in_dims=(None, 0))
    expected = slope(weights, records)["weight"]
    for poison in (float("nan"), float("inf"), -3e38):
        poisoned = records.clone()
        poisoned[2] = poison
        found = slope(weights, poisoned)["weight"]
        assert torch.equal(found[[0, 1, 3]].nan_to_num(7.0), expected[[0, 1, 3]].nan_to_num(7.0))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: torch.div(x, x + 3, rounding_mode="floor"), "div.Tensor_mode is not allowed.*a number"),
        (lambda x: x % (x + 3), "remainder.Tensor is not allowed.*by a number"),
        (lambda x: (x > 0).gather(1, code(x)).float() * x, "gather is not allowed.*float32"),
        (lambda x: torch.zeros_like(x).scatter(1, code(x), x), "scatter.src is not allowed"),
        (lambda x: x.repeat(1, 20, 1).cumprod(1), "cumprod is not allowed.*64 steps"),
        (
            lambda x: nn.functional.embedding(code(x[:, 0]), TABLE, padding_idx=1) * x[:, :4, :3],
            "F.embedding has a padding_idx.*Use nn.Embedding",
        ),
        (lambda x: torch.cdist(x, x, p=3.0), "_cdist_forward is not allowed"),
        (lambda x: nn.functional.interpolate(x.unsqueeze(1), size=(7, 4)), "upsample_nearest2d.vec is not allowed"),
    ],
)
def test_what_has_no_other_words_is_refused_with_what_to_write(function: Function, words: str) -> None:
    with pytest.raises(GraphRefused, match=words):
        export_model(Calls(function), SHAPE)
