"""Operators that models use and graphs have not, written as operators that graphs have.

Each function below is what an operator of ATen computes, in other operators, for the batch of one on which a model is
exported: of one record it makes what the operator makes. So models are written as people write them, and the list of
operators that meet private rows (`policies.graph.operators`) does not grow. `NotImplemented` leaves an operator as it
is, which is then refused by its name.

A place that depends on a record is compared with every place there is, and whatever it holds, nothing fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MOST_STEPS = 64  # of what is made one after the other

aten = torch.ops.aten


def _divide(x: Tensor, other: Any, *, rounding_mode: str | None) -> Any:
    """Rounded division by a number: less the remainder first, so that the quotient is whole but for its last digit."""
    if isinstance(other, Tensor) or rounding_mode is None or not x.is_floating_point() or other == 0:
        return NotImplemented
    rest = torch.remainder(x, other) if rounding_mode == "floor" else torch.fmod(x, other)
    return torch.round((x - rest) / other)


def _from_number(x: Tensor, other: Any, alpha: Any = 1) -> Any:
    """`other - alpha * x`, whose first part would be a tensor of no record."""
    negative = torch.neg(x) if alpha == 1 else x * -alpha
    return negative + other


def _variance_and_mean(
    x: Tensor, dim: list[int] | None = None, *, correction: Any = None, keepdim: bool = False
) -> Any:
    correction = 1 if correction is None else correction
    axes = dim if dim else list(range(x.dim()))
    return torch.var(x, axes, correction=correction, keepdim=keepdim), torch.mean(x, axes, keepdim=keepdim)


def _of_order(x: Tensor, place: int, dim: int, keepdim: bool) -> Any:
    if x.dim() == 0:
        return NotImplemented
    found = [torch.select(part, dim, place) for part in torch.sort(x, dim=dim)]
    return tuple(part.unsqueeze(dim) if keepdim else part for part in found)


def _median(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    return _of_order(x, (x.shape[dim] - 1) // 2, dim, keepdim) if x.dim() else NotImplemented


def _kth_value(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return _of_order(x, k - 1, dim, keepdim)


def _running(step: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    def rewritten(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
        if x.dim() == 0 or not x.is_floating_point() or x.shape[dim] > MOST_STEPS or dtype not in (None, x.dtype):
            return NotImplemented
        parts = list(torch.unbind(x, dim))
        for number in range(1, len(parts)):
            parts[number] = step(parts[number - 1], parts[number])
        return torch.stack(parts, dim)

    return rewritten


def _running_extreme(reached: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    def rewritten(x: Tensor, dim: int) -> Any:
        if x.dim() == 0 or not x.is_floating_point() or x.shape[dim] > MOST_STEPS:
            return NotImplemented
        parts = list(torch.unbind(x, dim))
        values, places = [parts[0]], [torch.zeros_like(parts[0], dtype=torch.int64)]
        for number, part in enumerate(parts[1:], start=1):
            new = reached(part, values[-1])
            values.append(torch.where(new, part, values[-1]))
            places.append(torch.where(new, torch.full_like(places[-1], number), places[-1]))
        return torch.stack(values, dim), torch.stack(places, dim)

    return rewritten


def _chosen(index: Tensor, dim: int, size: int) -> Tensor:
    """Whether a place is the one that `index` names, [..., places of the index, places there are, ...]."""
    places = torch.arange(size).reshape([size, *[1] * (index.dim() - 1 - dim)])
    return torch.eq(index.unsqueeze(dim + 1), places)


def _gather(x: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Any:
    if x.dim() == 0 or x.dtype == torch.bool or index.dim() != x.dim():
        return NotImplemented
    dim %= x.dim()
    for axis, size in enumerate(index.shape):
        if axis != dim:
            x = torch.narrow(x, axis, 0, size)
    zero = torch.zeros((), dtype=x.dtype)
    return torch.where(_chosen(index, dim, x.shape[dim]), x.unsqueeze(dim), zero).sum(dim + 1)


def _scatter_one(x: Tensor, dim: int, index: Tensor, source: Any) -> Any:
    """Of one place in each line: with several, which of them is written last would be left open."""
    dim = dim % x.dim() if x.dim() else 0
    if x.dim() == 0 or index.dim() != x.dim() or (isinstance(source, Tensor) and index.shape[dim] != 1):
        return NotImplemented
    if any(index.shape[axis] != x.shape[axis] for axis in range(x.dim()) if axis != dim):
        return NotImplemented
    here = torch.any(_chosen(index, dim, x.shape[dim]), dim)
    if not isinstance(source, Tensor):
        source = torch.full((), source, dtype=x.dtype)
    return torch.where(here, torch.narrow(source, dim, 0, 1) if source.dim() else source, x)


def _index(x: Tensor, indices: list[Tensor | None]) -> Any:
    """Whole numbers for dimensions beside each other, as `x[:, [0, 2]]` and `x[rows, last]`."""
    given = [axis for axis, index in enumerate(indices) if index is not None]
    places = [index for index in indices if index is not None]
    if not places or given != list(range(given[0], given[-1] + 1)) or any(p.dtype != torch.int64 for p in places):
        return NotImplemented
    shape = torch.Size(np.broadcast_shapes(*(index.shape for index in places)))
    before, after = x.shape[: given[0]], x.shape[given[-1] + 1 :]
    flat = None
    for axis, index in zip(given, places, strict=True):
        size = x.shape[axis]
        inside = torch.where(index < 0, index + size, index).clamp(0, size - 1).expand(shape)
        flat = inside if flat is None else flat * size + inside
    assert flat is not None
    lines = torch.reshape(x, [*before, math.prod(x.shape[given[0] : given[-1] + 1]), *after])
    return torch.index_select(lines, given[0], flat.reshape(-1)).reshape([*before, *shape, *after])


def _index_put(x: Tensor, indices: list[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    """One number where a mask says so, as `x[x < 0] = 0`."""
    mask = indices[0] if len(indices) == 1 else None
    if mask is None or mask.dtype != torch.bool or values.numel() != 1 or accumulate:
        return NotImplemented
    if mask.shape != x.shape[: mask.dim()]:
        return NotImplemented
    mask = mask.reshape([*mask.shape, *[1] * (x.dim() - mask.dim())])
    return torch.where(mask, values.reshape([]), x)


def _unfold(x: Tensor, dim: int, size: int, step: int) -> Any:
    if x.dim() == 0:
        return NotImplemented
    dim %= x.dim()
    windows = (x.shape[dim] - size) // step + 1
    places = (torch.arange(windows) * step).unsqueeze(1) + torch.arange(size)
    parts = torch.index_select(x, dim, places.reshape(-1))
    parts = parts.reshape([*x.shape[:dim], windows, size, *x.shape[dim + 1 :]])
    return torch.movedim(parts, dim + 1, -1)


def _diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    moved = torch.movedim(x, (dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2:]
    count = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    if count < 1:
        return NotImplemented
    first = offset if offset >= 0 else -offset * columns
    places = torch.arange(count) * (columns + 1) + first
    return torch.index_select(moved.reshape([*moved.shape[:-2], rows * columns]), -1, places)


def _trilinear(
    first: Tensor,
    second: Tensor,
    third: Tensor,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
) -> Any:
    """What `nn.Bilinear` makes: products of every pair, times the weight, added up."""

    def spread(x: Tensor, axes: list[int]) -> Tensor:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return (spread(first, expand1) * spread(second, expand2) * spread(third, expand3)).sum(sumdim)


def _embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Any:
    """The row of the padding is zero and is not trained: so it is zero here whatever noise its weights get."""
    if padding_idx < 0:
        return NotImplemented
    rows = torch.embedding(weight, indices)
    return torch.where(torch.eq(indices, padding_idx).unsqueeze(-1), torch.zeros((), dtype=rows.dtype), rows)


def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> Any:
    """Sum, mean or largest of the rows of one record's only bag, which begins at its first index."""
    if offsets.shape != (1,) or include_last_offset or (mode == 2 and padding_idx >= 0) or indices.numel() == 0:
        return NotImplemented
    rows = torch.embedding(weight, indices)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    counted = torch.ones_like(indices, dtype=weight.dtype)
    if padding_idx >= 0:
        counted = torch.ne(indices, padding_idx).to(weight.dtype)
        rows = rows * counted.unsqueeze(1)
    if mode == 2:
        bag = rows.amax(0, keepdim=True)
    else:
        bag = rows.sum(0, keepdim=True)
        bag = bag / counted.sum().clamp(min=1) if mode == 1 else bag
    nothing = torch.zeros_like(offsets)
    return bag, torch.zeros_like(indices), nothing, nothing


def _normalised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> Any:
    """What `nn.InstanceNorm` makes of one record: each channel less its mean, over its deviation."""
    axes = [0, *range(2, x.dim())]
    mean = x.mean(axes, keepdim=True)
    scale = torch.rsqrt(torch.var(x, axes, correction=0, keepdim=True) + eps)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    normal = (x - mean) * scale
    normal = normal if weight is None else normal * weight.reshape(shape)
    return normal if bias is None else normal + bias.reshape(shape), mean.flatten(), scale.flatten()


def _distances(one: Tensor, other: Tensor, p: float, compute_mode: int | None) -> Any:
    if p not in (1.0, 2.0, math.inf):
        return NotImplemented
    return torch.linalg.vector_norm(one.unsqueeze(-2) - other.unsqueeze(-3), p, -1)


def _enlarged(x: Tensor, output_size: list[int] | None, factors: list[float] | None) -> list[int]:
    """Sizes of the dimensions after batch and channels."""
    if output_size is not None:
        return list(output_size)
    assert factors is not None
    return [int(have * factor) for have, factor in zip(x.shape[2:], factors, strict=True)]


def _nearest(x: Tensor, output_size: list[int] | None, factors: list[float] | None) -> Any:
    """Each number as many times as its dimension grows, a whole number of times."""
    sizes = _enlarged(x, output_size, factors)
    if any(size % have for size, have in zip(sizes, x.shape[2:], strict=True)):
        return NotImplemented
    for axis, size in enumerate(sizes, start=2):
        have = x.shape[axis]
        lines = x.unsqueeze(axis + 1).expand([*x.shape[: axis + 1], size // have, *x.shape[axis + 1 :]])
        x = lines.reshape([*x.shape[:axis], size, *x.shape[axis + 1 :]])
    return x


def _bilinear(x: Tensor, output_size: list[int] | None, align_corners: bool, factors: list[float] | None) -> Any:
    """Between the two nearest numbers along one dimension, then along the other."""
    for number, size in enumerate(_enlarged(x, output_size, factors)):
        axis, have = number + 2, x.shape[number + 2]
        step = 1 / factors[number] if factors is not None else have / size
        places = torch.arange(size, dtype=torch.float32)
        if align_corners:
            places = places * ((have - 1) / max(1, size - 1))
        else:
            places = ((places + 0.5) * step - 0.5).clamp(min=0)
        low = places.to(torch.int64).clamp(max=have - 1)
        share = (places - low).reshape([size, *[1] * (x.dim() - 1 - axis)])
        before = torch.index_select(x, axis, low)
        after = torch.index_select(x, axis, (low + 1).clamp(max=have - 1))
        x = before + (after - before) * share
    return x


def _deep(values: list[int] | None, kernel: list[int]) -> list[int]:
    """One number for each of three dimensions."""
    given = list(values) if values else list(kernel)
    return given if len(given) == 3 else given * 3


def _in_depth(
    pool: Callable[[Tensor, list[int], list[int], list[int], list[int]], Tensor], x: Tensor, *args: Any
) -> Any:
    """A pooling over three dimensions as one over the last two and then one over the first."""
    kernel, stride, padding, dilation = args
    batch, channels, depth, height, width = x.shape
    flat = pool(x.reshape([batch, channels * depth, height, width]), *(part[1:] for part in args))
    lines = flat.reshape([batch, channels, depth, flat.shape[2] * flat.shape[3]])
    ones = [[part[0], one] for part, one in ((kernel, 1), (stride, 1), (padding, 0), (dilation, 1))]
    found = pool(lines, *ones)
    return found.reshape([batch, channels, found.shape[2], *flat.shape[2:]])


def _largest_in_depth(
    x: Tensor,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: Any = (0,),
    dilation: Any = (1,),
    ceil_mode: bool = False,
) -> Any:
    """Of the largest numbers the first is the first of both poolings, so a gradient goes where torch's goes."""
    if x.dim() != 5 or ceil_mode:
        return NotImplemented
    kernel = _deep(kernel, kernel)

    def pool(x: Tensor, size: list[int], step: list[int], before: list[int], apart: list[int]) -> Tensor:
        return torch.max_pool2d(x, size, step, before, apart)

    found = _in_depth(pool, x, kernel, _deep(stride, kernel), _deep(padding, kernel), _deep(dilation, kernel))
    return found, torch.zeros_like(found, dtype=torch.int64)


def _mean_in_depth(
    x: Tensor,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: Any = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """A mean of means of as many numbers each."""
    if x.dim() != 5 or ceil_mode or not count_include_pad or divisor_override is not None:
        return NotImplemented
    kernel = _deep(kernel, kernel)

    def pool(x: Tensor, size: list[int], step: list[int], before: list[int], _: list[int]) -> Tensor:
        return nn.functional.avg_pool2d(x, size, step, before)

    return _in_depth(pool, x, kernel, _deep(stride, kernel), _deep(padding, kernel), [1, 1, 1])


def _finite(x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Any:
    if not x.is_floating_point():
        return NotImplemented
    largest = torch.full((), 1e9)  # the largest constant; of float32's largest number there are four in a product
    largest = largest * largest * largest * largest * 340.282
    x = torch.where(torch.isnan(x), 0.0 if nan is None else nan, x)
    x = torch.where(x == math.inf, largest if posinf is None else posinf, x)
    return torch.where(x == -math.inf, -largest if neginf is None else neginf, x)


def _eye(rows: int, columns: int | None = None, *, dtype: torch.dtype | None = None, **_: Any) -> Any:
    same = torch.arange(rows).unsqueeze(1) == torch.arange(rows if columns is None else columns)
    return same.to(torch.float32 if dtype is None else dtype)


REWRITES: dict[Any, Callable[..., Any]] = {
    aten._cdist_forward.default: _distances,
    aten._embedding_bag.default: _embedding_bag,
    aten._embedding_bag_forward_only.default: _embedding_bag,
    aten._native_batch_norm_legit.no_stats: _normalised,
    aten._trilinear.default: _trilinear,
    aten.avg_pool3d.default: _mean_in_depth,
    aten.cummax.default: _running_extreme(torch.ge),
    aten.cummin.default: _running_extreme(torch.le),
    aten.cumprod.default: _running(torch.mul),
    aten.diagonal.default: _diagonal,
    aten.embedding.default: _embedding,
    aten.eye.default: _eye,
    aten.eye.m: _eye,
    aten.nan_to_num.default: _finite,
    aten.div.Scalar_mode: _divide,
    aten.div.Tensor_mode: _divide,
    aten.gather.default: _gather,
    aten.index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten.kthvalue.default: _kth_value,
    aten.logcumsumexp.default: _running(torch.logaddexp),
    aten.max_pool3d_with_indices.default: _largest_in_depth,
    aten.median.dim: _median,
    aten.rsub.Scalar: _from_number,
    aten.scatter.src: _scatter_one,
    aten.scatter.value: _scatter_one,
    aten.unfold.default: _unfold,
    aten.upsample_bilinear2d.vec: _bilinear,
    aten.upsample_nearest2d.vec: _nearest,
    aten.var_mean.correction: _variance_and_mean,
}
