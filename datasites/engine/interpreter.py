"""Run a graph of allowed operators on one record: the only form in which a researcher's model meets private rows.

Operators are looked up in the table below and nowhere else. `forward` gives a pure function of parameters and one
record, made for `torch.func.vmap(grad(...))`; under vmap one record's output and gradient depend on no other record.
Indices taken from a record are clamped, so that no value of a record can make an operator fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from policies.errors import GraphRefused
from policies.graph.graphs import RECORD, Graph, Node
from policies.graph.operators import OPERATORS, number

aten = torch.ops.aten
DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}

_FACTORIES = ("full", "scalar_tensor", "arange.start_step")  # what makes tensors out of nothing

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
_Watch = Callable[[Node, Any], None]
_Step = tuple[Callable[..., Any], list[Any], list[tuple[int, int | list[int]]], dict[str, Any]]


def _constant(values: list[Any], shape: list[int], dtype: torch.dtype, device: str) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device).reshape(shape)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _index_select(self: Tensor, dim: int, index: Tensor) -> Tensor:
    result: Tensor = aten.index_select.default(self, dim, index.clamp(0, self.shape[dim] - 1))
    return result


def _group_norm(x: Tensor, *rest: Any) -> Any:
    # Its kernel wants its input in one piece, which a slice of a sequence is not.
    return aten.native_group_norm.default(x.clone(memory_format=torch.contiguous_format), *rest)


def _embedding(weight: Tensor, indices: Tensor) -> Tensor:
    result: Tensor = aten.embedding.default(weight, indices.clamp(0, weight.shape[0] - 1))
    return result


def _getitem(tensors: Sequence[Tensor], index: int) -> Tensor:
    return tensors[index]


TABLE: dict[str, Callable[..., Any]] = {
    "_adaptive_avg_pool2d": aten._adaptive_avg_pool2d.default,
    "_log_softmax": aten._log_softmax.default,
    "_softmax": aten._softmax.default,
    "_to_copy": aten._to_copy.default,
    "abs": aten.abs.default,
    "acos": aten.acos.default,
    "acosh": aten.acosh.default,
    "adaptive_max_pool2d": aten.adaptive_max_pool2d.default,
    "add.Scalar": aten.add.Scalar,
    "add.Tensor": aten.add.Tensor,
    "addmm": aten.addmm.default,
    "amax": aten.amax.default,
    "amin": aten.amin.default,
    "any.dim": aten.any.dim,
    "arange.start_step": aten.arange.start_step,
    "argmax": aten.argmax.default,
    "argmin": aten.argmin.default,
    "asin": aten.asin.default,
    "asinh": aten.asinh.default,
    "atan": aten.atan.default,
    "atan2": aten.atan2.default,
    "atanh": aten.atanh.default,
    "avg_pool1d": aten.avg_pool1d.default,
    "avg_pool2d": aten.avg_pool2d.default,
    "bitwise_and.Tensor": aten.bitwise_and.Tensor,
    "bitwise_not": aten.bitwise_not.default,
    "bitwise_or.Tensor": aten.bitwise_or.Tensor,
    "bitwise_xor.Tensor": aten.bitwise_xor.Tensor,
    "bmm": aten.bmm.default,
    "cat": aten.cat.default,
    "ceil": aten.ceil.default,
    "clamp": aten.clamp.default,
    "clamp.Tensor": aten.clamp.Tensor,
    "constant": _same,
    "constant_pad_nd": aten.constant_pad_nd.default,
    "convolution": aten.convolution.default,
    "copy": aten.copy.default,
    "cos": aten.cos.default,
    "cosh": aten.cosh.default,
    "cumsum": aten.cumsum.default,
    "div.Scalar": aten.div.Scalar,
    "div.Tensor": aten.div.Tensor,
    "elu": aten.elu.default,
    "embedding": _embedding,
    "eq.Scalar": aten.eq.Scalar,
    "eq.Tensor": aten.eq.Tensor,
    "erf": aten.erf.default,
    "erfc": aten.erfc.default,
    "exp": aten.exp.default,
    "expand": aten.expand.default,
    "expm1": aten.expm1.default,
    "flip": aten.flip.default,
    "floor": aten.floor.default,
    "fmod.Scalar": aten.fmod.Scalar,
    "full": aten.full.default,
    "full_like": aten.full_like.default,
    "ge.Scalar": aten.ge.Scalar,
    "ge.Tensor": aten.ge.Tensor,
    "gelu": aten.gelu.default,
    "getitem": _getitem,
    "gt.Scalar": aten.gt.Scalar,
    "gt.Tensor": aten.gt.Tensor,
    "hardtanh": aten.hardtanh.default,
    "index_select": _index_select,
    "isinf": aten.isinf.default,
    "isnan": aten.isnan.default,
    "le.Scalar": aten.le.Scalar,
    "le.Tensor": aten.le.Tensor,
    "leaky_relu": aten.leaky_relu.default,
    "linalg_vector_norm": aten.linalg_vector_norm.default,
    "log": aten.log.default,
    "log10": aten.log10.default,
    "log1p": aten.log1p.default,
    "log2": aten.log2.default,
    "logical_and": aten.logical_and.default,
    "logical_not": aten.logical_not.default,
    "logical_or": aten.logical_or.default,
    "logical_xor": aten.logical_xor.default,
    "lt.Scalar": aten.lt.Scalar,
    "lt.Tensor": aten.lt.Tensor,
    "max.dim": aten.max.dim,
    "max_pool2d_with_indices": aten.max_pool2d_with_indices.default,
    "maximum": aten.maximum.default,
    "mean": aten.mean.default,
    "mean.dim": aten.mean.dim,
    "min.dim": aten.min.dim,
    "minimum": aten.minimum.default,
    "mm": aten.mm.default,
    "mul.Scalar": aten.mul.Scalar,
    "mul.Tensor": aten.mul.Tensor,
    "native_group_norm": _group_norm,
    "native_layer_norm": aten.native_layer_norm.default,
    "ne.Scalar": aten.ne.Scalar,
    "ne.Tensor": aten.ne.Tensor,
    "neg": aten.neg.default,
    "permute": aten.permute.default,
    "pow.Scalar": aten.pow.Scalar,
    "pow.Tensor_Scalar": aten.pow.Tensor_Scalar,
    "pow.Tensor_Tensor": aten.pow.Tensor_Tensor,
    "prod.dim_int": aten.prod.dim_int,
    "reciprocal": aten.reciprocal.default,
    "relu": aten.relu.default,
    "remainder.Scalar": aten.remainder.Scalar,
    "repeat": aten.repeat.default,
    "round": aten.round.default,
    "rsqrt": aten.rsqrt.default,
    "scalar_tensor": aten.scalar_tensor.default,
    "select.int": aten.select.int,
    "select_scatter": aten.select_scatter.default,
    "sigmoid": aten.sigmoid.default,
    "sign": aten.sign.default,
    "sin": aten.sin.default,
    "sinh": aten.sinh.default,
    "slice.Tensor": aten.slice.Tensor,
    "slice_scatter": aten.slice_scatter.default,
    "sort": aten.sort.default,
    "split_with_sizes": aten.split_with_sizes.default,
    "sqrt": aten.sqrt.default,
    "squeeze.dim": aten.squeeze.dim,
    "squeeze.dims": aten.squeeze.dims,
    "sub.Scalar": aten.sub.Scalar,
    "sub.Tensor": aten.sub.Tensor,
    "sum": aten.sum.default,
    "sum.dim_IntList": aten.sum.dim_IntList,
    "tan": aten.tan.default,
    "tanh": aten.tanh.default,
    "topk": aten.topk.default,
    "trunc": aten.trunc.default,
    "unsqueeze": aten.unsqueeze.default,
    "var.correction": aten.var.correction,
    "view": aten.reshape.default,
    "where.self": aten.where.self,
}


def forward(graph: Graph, frozen: Mapping[str, Tensor] = {}) -> Forward:
    """A pure function (parameters, one record) -> output of that record.

    Args:
      graph: checked again here, sizes included, by running its operators on tensors without values.
      frozen: values of frozen parameters by name; they are constants of the function.

    Returns:
      A function of the other parameters by name and a record of `graph.input_shape`; the output has
      `graph.output_shape`.

    Raises:
      GraphRefused: an operator is not in the table, or gives another shape or dtype than the graph says.
    """
    graph = Graph.from_dict(graph.as_dict())  # whoever made it, it is checked again before use
    _check_shapes(graph)
    run = _compile(graph, "cpu")

    def one_record(parameters: Mapping[str, Tensor], record: Tensor) -> Tensor:
        output: Tensor = run({**frozen, **parameters} if frozen else parameters, record.unsqueeze(0), None)
        return output.squeeze(0)

    return one_record


def _compile(
    graph: Graph, device: str, table: Mapping[str, Callable[..., Any]] = TABLE
) -> Callable[[Mapping[str, Tensor], Tensor, _Watch | None], Tensor]:
    """The graph as a list of steps over numbered slots, so that a run looks nothing up by name."""
    names = [parameter.name for parameter in graph.weights]
    slots = {("parameter", name): index for index, name in enumerate(names)}
    slots["ref", RECORD] = len(slots)
    steps = []
    for node in graph.nodes:
        steps.append((node, *_step(node, slots, device, table)))
        slots["ref", node.name] = len(slots)
    output = slots["ref", graph.output]
    last = {slot: index for index, (_, _, _, places, _) in enumerate(steps) for slot in _read(places)}
    done: list[list[int]] = [[] for _ in steps]
    for slot, at in last.items():
        if slot != output:
            done[at].append(slot)

    def run(parameters: Mapping[str, Tensor], batch: Tensor, watch: _Watch | None) -> Tensor:
        values: list[Any] = [parameters[name] for name in names]
        values.append(batch)
        for (node, operator, fixed, places, keywords), unneeded in zip(steps, done, strict=True):
            args = fixed.copy()
            for place, slot in places:
                args[place] = values[slot] if isinstance(slot, int) else [values[part] for part in slot]
            value = operator(*args, **keywords)
            if watch is not None:
                watch(node, value)
            values.append(value)
            for slot in unneeded:  # memory that is used again soon stays in the processor's cache
                values[slot] = None
        result: Tensor = values[output]
        return result

    return run


def _read(places: list[tuple[int, int | list[int]]]) -> list[int]:
    return [slot for _, slots in places for slot in ([slots] if isinstance(slots, int) else slots)]


def _step(
    node: Node, slots: Mapping[tuple[str, str], int], device: str, table: Mapping[str, Callable[..., Any]]
) -> _Step:
    """The node's function, its constants, the places that tensors take among them, and keyword-only constants."""
    fixed: list[Any] = []
    places: list[tuple[int, int | list[int]]] = []
    keywords: dict[str, Any] = {}

    def slot(reference: Mapping[str, str]) -> int:
        ((kind, name),) = reference.items()
        return slots[kind, name]

    for argument, value in zip(OPERATORS[node.op].arguments, node.args, strict=True):
        if argument.kind == "tensors":
            places.append((len(fixed), [slot(reference) for reference in value]))
            fixed.append(None)
        elif argument.kind in ("tensor", "operand") and isinstance(value, dict):
            places.append((len(fixed), slot(value)))
            fixed.append(None)
        elif argument.keyword:
            keywords[argument.name] = _decode(value)
        else:
            fixed.append(_decode(value))
    if node.op == "constant":  # made once, not at each step
        values, shape, dtype = fixed
        fixed = [_constant(values, shape, dtype, device)]
    elif node.op in _FACTORIES:
        keywords["device"] = device
    return table[node.op], fixed, places, keywords


def _decode(value: Any) -> Any:
    """A constant as ATen takes it: dtypes and infinities are written as small dictionaries."""
    if isinstance(value, dict):
        return DTYPES[value["dtype"]] if "dtype" in value else number(value)
    return value


def _addmm_shape(bias: Tensor, x: Tensor, y: Tensor, **_: Any) -> Tensor:
    result: Tensor = aten.mm.default(x, y)
    if bias.dtype != result.dtype or bias.expand(result.shape).shape != result.shape:
        raise GraphRefused("A bias is of another kind than what it is added to.")
    return result


def _relu_shape(x: Tensor) -> Tensor:
    operator = TABLE["sigmoid" if x.dtype == torch.float32 else "relu"]
    result: Tensor = operator(x)
    return result


_SHAPES: dict[str, Callable[..., Tensor]] = {"addmm": _addmm_shape, "relu": _relu_shape}
"""Where torch takes a quarter of a millisecond to find a shape: the same one, in dtype and strides too, faster."""


class _Remembering(Mapping[str, Callable[..., Any]]):
    """`TABLE` for tensors without values: what an operator gives for arguments alike is found once.

    Tensors are alike in shape, strides and dtype: nothing else is known of those without values. A recurrent layer asks
    for the same at each of its steps.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        operator: Callable[..., Any] = _SHAPES.get(name, TABLE[name])

        def remembered(*args: Any, **keywords: Any) -> Any:
            asked = (name, _described(args), _described(tuple(keywords.items())))
            if asked not in self._known:
                self._known[asked] = operator(*args, **keywords)
            return self._known[asked]

        return remembered

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)

    def __len__(self) -> int:
        return len(TABLE)


def _described(value: Any) -> Any:
    """What is known of an argument. Numbers are told apart by how they are written, as 1, 1.0 and True are."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(_described(part) for part in value)
    return repr(value)


def _check_shapes(graph: Graph) -> None:
    """Raise `GraphRefused` unless each operator gives the dtypes and shapes on which the bounds were checked."""

    def compare(node: Node, value: Any) -> None:
        tensors = value if isinstance(value, list | tuple) else [value]
        outputs = tuple((str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for tensor in tensors)
        if outputs != node.outputs:
            raise GraphRefused(f"{node.op} in {node.name} gives {outputs} where the graph says {node.outputs}.")

    parameters = {parameter.name: torch.empty(parameter.shape, device="meta") for parameter in graph.weights}
    try:
        with torch.no_grad():
            run = _compile(graph, "meta", _Remembering())
            run(parameters, torch.empty((1, *graph.input_shape), device="meta"), compare)
    except GraphRefused:
        raise
    except Exception as error:
        # ATen refuses arguments that do not go together with errors of many types.
        raise GraphRefused(f"The graph does not run: {type(error).__name__}.") from None
