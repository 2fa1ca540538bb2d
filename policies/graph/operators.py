"""Which tensor operators a graph may use and what arguments each may have. Data and checks, no torch.

Every operator here works on one record alone, has a gradient or gives integers or booleans, has no side effect, draws
nothing at random, and cannot fail on some values of a record and not on others: divisors that integers would need are
constants other than zero, and indices are clamped by the interpreter. A signature lists the arguments of the ATen
operator of the same name; those after `*` are keyword-only there. Layout, device and memory format are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from policies.errors import GraphRefused

DTYPES = ("float32", "int64", "bool")
MAX_NUMBER = 1e9  # of a constant in a computation
MAX_INDEX = 2**31 - 1  # of a size, dimension, index or stride
MAX_LIST = 256
MAX_CONSTANT_ELEMENTS = 4_096

Outputs = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Argument:
    """An argument's name in ATen, its kind in `KINDS`, whether null is allowed, whether it is keyword-only."""

    name: str
    kind: str
    optional: bool
    keyword: bool


@dataclass(frozen=True)
class Operator:
    """An allowed operator. `outputs` is how many tensors it gives, 0 where that depends on its arguments."""

    name: str
    arguments: tuple[Argument, ...]
    outputs: int = 1


def _operator(name: str, signature: str, outputs: int = 1) -> Operator:
    arguments, keyword = [], False
    for word in signature.split():
        if word == "*":
            keyword = True
            continue
        label, kind = word.split(":")
        arguments.append(Argument(label, kind.rstrip("?"), kind.endswith("?"), keyword))
    return Operator(name, tuple(arguments), outputs)


_UNARY = """abs acos acosh asin asinh atan atanh ceil cos cosh erf erfc exp expm1 floor isinf isnan log log10 log1p log2
    logical_not neg reciprocal relu round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc bitwise_not"""
_COMPARISONS = "eq ne lt le gt ge"
_LOGICAL = "logical_and logical_or logical_xor bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor"
_SIGNATURES = {
    # arithmetic
    "add.Tensor": "self:tensor other:operand * alpha:scalar",
    "add.Scalar": "self:tensor other:scalar alpha:scalar",
    "sub.Tensor": "self:tensor other:operand * alpha:scalar",
    "sub.Scalar": "self:tensor other:scalar alpha:scalar",
    "mul.Tensor": "self:tensor other:operand",
    "mul.Scalar": "self:tensor other:scalar",
    "div.Tensor": "self:tensor other:operand",
    "div.Scalar": "self:tensor other:scalar",
    "pow.Tensor_Scalar": "self:tensor exponent:scalar",
    "pow.Scalar": "self:scalar exponent:tensor",
    "pow.Tensor_Tensor": "self:tensor exponent:tensor",
    "fmod.Scalar": "self:tensor other:scalar",
    "remainder.Scalar": "self:tensor other:scalar",
    "atan2": "self:tensor other:tensor",
    "maximum": "self:tensor other:tensor",
    "minimum": "self:tensor other:tensor",
    "clamp": "self:tensor min:scalar? max:scalar?",
    "clamp.Tensor": "self:tensor min:tensor? max:tensor?",
    "where.self": "condition:tensor self:tensor other:tensor",
    # activations
    "elu": "self:tensor alpha:scalar scale:scalar input_scale:scalar",
    "gelu": "self:tensor * approximate:text",
    "hardtanh": "self:tensor min_val:scalar max_val:scalar",
    "leaky_relu": "self:tensor negative_slope:scalar",
    "_softmax": "self:tensor dim:int half_to_float:bool",
    "_log_softmax": "self:tensor dim:int half_to_float:bool",
    # products
    "mm": "self:tensor mat2:tensor",
    "bmm": "self:tensor mat2:tensor",
    "addmm": "self:tensor mat1:tensor mat2:tensor * beta:scalar alpha:scalar",
    "convolution": "input:tensor weight:tensor bias:tensor? stride:ints padding:ints dilation:ints transposed:bool "
    "output_padding:ints groups:int",
    # reductions within a record
    "sum": "self:tensor * dtype:dtype?",
    "sum.dim_IntList": "self:tensor dim:ints? keepdim:bool * dtype:dtype?",
    "mean": "self:tensor * dtype:dtype?",
    "mean.dim": "self:tensor dim:ints? keepdim:bool * dtype:dtype?",
    "var.correction": "self:tensor dim:ints? * correction:scalar? keepdim:bool",
    "prod.dim_int": "self:tensor dim:int keepdim:bool * dtype:dtype?",
    "cumsum": "self:tensor dim:int * dtype:dtype?",
    "amax": "self:tensor dim:ints keepdim:bool",
    "amin": "self:tensor dim:ints keepdim:bool",
    "argmax": "self:tensor dim:int? keepdim:bool",
    "argmin": "self:tensor dim:int? keepdim:bool",
    "any.dim": "self:tensor dim:int keepdim:bool",
    "linalg_vector_norm": "self:tensor ord:norm dim:ints? keepdim:bool * dtype:dtype?",
    # shapes
    "view": "self:tensor size:ints",
    "permute": "self:tensor dims:ints",
    "expand": "self:tensor size:ints",
    "unsqueeze": "self:tensor dim:int",
    "squeeze.dim": "self:tensor dim:int",
    "squeeze.dims": "self:tensor dim:ints",
    "select.int": "self:tensor dim:int index:int",
    "slice.Tensor": "self:tensor dim:int start:int? end:int? step:int",
    "cat": "tensors:tensors dim:int",
    "flip": "self:tensor dims:ints",
    "repeat": "self:tensor repeats:ints",
    "constant_pad_nd": "self:tensor pad:ints value:scalar",
    "index_select": "self:tensor dim:int index:tensor",
    "embedding": "weight:tensor indices:tensor",
    "copy": "self:tensor src:tensor",
    "select_scatter": "self:tensor src:tensor dim:int index:int",
    "slice_scatter": "self:tensor src:tensor dim:int start:int? end:int? step:int",
    "getitem": "self:tensor index:int",
    # pooling
    "avg_pool1d": "self:tensor kernel_size:ints stride:ints padding:ints ceil_mode:bool count_include_pad:bool",
    "avg_pool2d": "self:tensor kernel_size:ints stride:ints padding:ints ceil_mode:bool count_include_pad:bool "
    "divisor_override:int?",
    "_adaptive_avg_pool2d": "self:tensor output_size:ints",
    # made from constants
    "full": "size:ints fill_value:fill * dtype:dtype?",
    "full_like": "self:tensor fill_value:fill * dtype:dtype?",
    "scalar_tensor": "s:fill * dtype:dtype?",
    "arange.start_step": "start:scalar end:scalar step:scalar * dtype:dtype?",
    "constant": "values:numbers shape:ints dtype:dtype",
    "_to_copy": "self:tensor * dtype:dtype?",
}
_SEVERAL = {
    "native_layer_norm": ("input:tensor normalized_shape:ints weight:tensor? bias:tensor? eps:scalar", 3),
    "native_group_norm": (
        "input:tensor weight:tensor? bias:tensor? N:int C:int HxW:int group:int eps:scalar",
        3,
    ),
    "max.dim": ("self:tensor dim:int keepdim:bool", 2),
    "min.dim": ("self:tensor dim:int keepdim:bool", 2),
    "topk": ("self:tensor k:int dim:int largest:bool sorted:bool", 2),
    "sort": ("self:tensor dim:int descending:bool", 2),
    "max_pool2d_with_indices": (
        "self:tensor kernel_size:ints stride:ints padding:ints dilation:ints ceil_mode:bool",
        2,
    ),
    "adaptive_max_pool2d": ("self:tensor output_size:ints", 2),
    "split_with_sizes": ("self:tensor split_sizes:ints dim:int", 0),
}


def _table() -> dict[str, Operator]:
    table = {name: _operator(name, "self:tensor") for name in _UNARY.split()}
    table |= {
        f"{name}.Tensor": _operator(f"{name}.Tensor", "self:tensor other:tensor") for name in _COMPARISONS.split()
    }
    table |= {f"{name}.Scalar": _operator(f"{name}.Scalar", "self:tensor other:fill") for name in _COMPARISONS.split()}
    table |= {name: _operator(name, "self:tensor other:tensor") for name in _LOGICAL.split()}
    table |= {name: _operator(name, signature) for name, signature in _SIGNATURES.items()}
    table |= {name: _operator(name, signature, count) for name, (signature, count) in _SEVERAL.items()}
    return table


OPERATORS: dict[str, Operator] = _table()


def references(operator: Operator, args: Sequence[Any]) -> Iterator[dict[str, str]]:
    """Every reference among `args`, in order. Raises `GraphRefused` where an argument's kind is not as declared."""
    if len(args) != len(operator.arguments):
        raise GraphRefused(f"{operator.name} takes {len(operator.arguments)} arguments, not {len(args)}.")
    for argument, value in zip(operator.arguments, args, strict=True):
        if value is None and argument.optional:
            continue
        if not KINDS[argument.kind](value):
            raise GraphRefused(f"{operator.name}: {argument.name} is not an allowed {argument.kind}.")
        if argument.kind == "tensor" or (argument.kind == "operand" and isinstance(value, dict)):
            yield value
        elif argument.kind == "tensors":
            yield from value


def check_arguments(
    operator: Operator, args: Sequence[Any], inputs: list[Outputs], outputs: Outputs, node: str
) -> None:
    """Raise `GraphRefused` where arguments of the right kinds are still not allowed together."""
    values = dict(zip((argument.name for argument in operator.arguments), args, strict=True))
    where = f"{operator.name} in {node}"
    if operator.name == "getitem" and not 0 <= values["index"] < len(inputs[0]):
        raise GraphRefused(f"{where} asks for an output that does not exist.")
    if operator.name in ("fmod.Scalar", "remainder.Scalar", "div.Scalar") and values["other"] == 0:
        raise GraphRefused(f"{where} divides by zero.")
    if operator.name.startswith("pow") and outputs[0][0] != "float32":
        raise GraphRefused(f"{where} gives {outputs[0][0]}. Use float32 values.")
    if operator.name in ("embedding", "index_select") and inputs[1][0][0] != "int64":
        raise GraphRefused(f"{where} needs int64 indices.")
    if operator.name == "constant":
        _check_constant(values, where)


def number(value: Any) -> float | int:
    """The number that a written constant stands for: itself, or the infinity of `{"number": "-inf"}`."""
    return float(value["number"]) if isinstance(value, dict) else value


def _check_constant(values: dict[str, Any], where: str) -> None:
    if math.prod(values["shape"]) != len(values["values"]) or any(size < 1 for size in values["shape"]):
        raise GraphRefused(f"{where} has {len(values['values'])} values for shape {tuple(values['shape'])}.")
    wanted = {"float32": float, "int64": int, "bool": bool}[values["dtype"]["dtype"]]
    if not all(type(value) is wanted for value in values["values"]):
        raise GraphRefused(f"{where} has values of another dtype.")


def _is_number(value: Any) -> bool:
    if type(value) is bool:
        return True
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= MAX_NUMBER


def _is_index(value: Any) -> bool:
    return type(value) is int and abs(value) <= MAX_INDEX


def _is_fill(value: Any) -> bool:
    return _is_number(value) or (
        isinstance(value, dict) and set(value) == {"number"} and value["number"] in ("inf", "-inf")
    )


def _is_reference(value: Any) -> bool:
    if not isinstance(value, dict) or list(value) not in (["ref"], ["parameter"]):
        return False
    return all(isinstance(name, str) for name in value.values())


def _is_list(value: Any, element: Callable[[Any], bool], bound: int) -> bool:
    return isinstance(value, list) and len(value) <= bound and all(element(item) for item in value)


KINDS: dict[str, Callable[[Any], bool]] = {
    "tensor": _is_reference,
    "operand": lambda value: _is_reference(value) or _is_number(value),
    "tensors": lambda value: _is_list(value, _is_reference, MAX_LIST),
    "int": _is_index,
    "ints": lambda value: _is_list(value, _is_index, MAX_LIST),
    "scalar": _is_number,
    "fill": _is_fill,
    "norm": lambda value: _is_fill(value) and number(value) in (1, 2, math.inf),
    "bool": lambda value: type(value) is bool,
    "text": lambda value: value in ("none", "tanh"),
    "dtype": lambda value: isinstance(value, dict) and list(value) == ["dtype"] and value["dtype"] in DTYPES,
    "numbers": lambda value: _is_list(value, _is_number, MAX_CONSTANT_ELEMENTS),
}
