"""A model class in, a graph of allowed operators out. The only module of `policies` that imports torch.

`torch.export` runs the model's forward on a batch of one with zeros in it. The model is exported as it scores, so that
dropout is nothing: DP-SGD's noise regularises already. Layers that keep statistics of a batch are refused by their
names, and whatever else is random by its operator. The same source gives the same graph in every process.

This module executes the researcher's Python. On a datasite it runs in the confined exporter process alone, with no
private row, no network and no file of ours in reach.
"""

from __future__ import annotations

import io
import logging
import math
import operator as python_operator
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, fx, nn

from policies.errors import GraphRefused
from policies.graph.graphs import MAX_NODES, MAX_TENSORS, RECORD, Graph, Node, Parameter
from policies.graph.operators import DTYPES, MAX_CONSTANT_ELEMENTS, MAX_NUMBER, OPERATORS, Argument
from policies.graph.rewrites import MOST_STEPS, REWRITES
from policies.privacy.parts import matches

FILENAME = "<request>"  # in tracebacks, so that a refusal can name the line of the researcher's source
_DROPPED = {"clone", "lift_fresh_copy", "_assert_tensor_metadata"}  # as a pure function they do nothing
_STEP_STRIDES = {"avg_pool1d", "avg_pool2d", "max_pool2d_with_indices"}

BATCH_NORM = "Use nn.GroupNorm or nn.LayerNorm."
INSTEAD = {
    "batch_norm": BATCH_NORM,
    "dropout": "Write F.dropout(x, p, self.training), which is nothing here, or remove it.",
    "rand": "Remove it: a model may draw nothing at random.",
    "bernoulli": "Remove it: a model may draw nothing at random.",
    "multinomial": "Remove it: a model may draw nothing at random.",
    "normal": "Remove it: a model may draw nothing at random.",
    "nonzero": "Its shape depends on the data. Use torch.where(condition, a, b).",
    "masked_select": "Its shape depends on the data. Use torch.where(condition, a, b).",
    "item": "Its value depends on the data. Keep it a tensor.",
    "local_scalar_dense": "Its value depends on the data. Keep it a tensor.",
    "detach": "Remove .detach(): every parameter is trained by the whole output.",
    "alias": "Remove .detach(): every parameter is trained by the whole output.",
    "linalg": "Use products and sums of tensors.",
    "fft": "Use nn.Conv1d or products of tensors.",
    "trilinear": "Use nn.Linear on torch.cat or on products of tensors.",
    "embedding_bag": "Give it a batch of indices [batch, places], without offsets.",
    "index": "Use slices, torch.where, or lists of whole numbers beside each other.",
    "gather": "Use float32 values, or slices and torch.where.",
    "scatter": "Use torch.where or torch.cat.",
    "remainder": "Use the remainder by a number.",
    "Tensor_mode": "Divide float32 values by a number, or use torch.floor(a / b).",
    "cum": f"Use float32 values and at most {MOST_STEPS} steps.",
}


def export_model(
    model: nn.Module | type[nn.Module],
    input_shape: tuple[int, ...],
    *,
    frozen: tuple[str, ...] = (),
    local: tuple[str, ...] = (),
) -> Graph:
    """The graph of `model` on one record.

    Args:
      model: a module, or a class of modules that takes no arguments.
      input_shape: of one record, without a batch dimension.
      frozen, local: patterns over names of parameters (`policies.privacy.parts`). Those that the model's own code gives
        `requires_grad=False` are frozen too.

    Raises:
      GraphRefused: the model cannot be run record by record; the message names the layer or operator, the line of the
        source where it is known, and what to use instead.
    """
    return _export(_instance(model), tuple(input_shape), frozen, local)


def export_source(
    source: str,
    model: str,
    input_shape: tuple[int, ...],
    *,
    seed: int = 0,
    frozen: tuple[str, ...] = (),
    local: tuple[str, ...] = (),
) -> tuple[Graph, dict[str, Tensor]]:
    """The graph of the class `model` that `source` defines, and its initial weights. Executes `source`.

    Args:
      source: imports and classes, as `Inspection.model_source` has them.
      model: the class's name.
      input_shape: of one record, without a batch dimension.
      seed: of torch's generator while the model is made: equal seeds give equal initial weights everywhere.
      frozen, local: as in `export_model`.

    Raises:
      GraphRefused: as `export_model`, or the source does not run.
    """
    namespace: dict[str, Any] = {"__name__": "request"}
    try:
        exec(compile(source, FILENAME, "exec"), namespace)
    except Exception as error:
        raise GraphRefused(f"The source does not run: {_brief(error)}") from None
    if model not in namespace:
        raise GraphRefused(f"The source defines no class {model!r:.80}.")
    instance = _instance(namespace[model], seed=seed)
    weights = {name: value.detach().clone() for name, value in instance.named_parameters()}
    graph = _export(instance, tuple(input_shape), frozen, local)
    if any(node.op == "constant" for node in graph.nodes):
        other = _export(_instance(namespace[model], seed=seed + 1), tuple(input_shape), frozen, local)
        if other != graph:
            raise GraphRefused(
                "A buffer or constant is drawn at random, so that every hospital would have another. Make it an "
                "nn.Parameter, or write its numbers."
            )
    return graph, weights


def _instance(model: Any, *, seed: int = 0) -> nn.Module:
    if isinstance(model, type) and issubclass(model, nn.Module):
        with _seeded(seed):
            try:
                model = model()
            except Exception as error:
                raise GraphRefused(f"{model.__name__}() cannot be made: {_brief(error)}") from None
    if not isinstance(model, nn.Module):
        raise GraphRefused("The model is not a class that derives from nn.Module.")
    return model


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _export(
    model: nn.Module, input_shape: tuple[int, ...], frozen: tuple[str, ...] = (), local: tuple[str, ...] = ()
) -> Graph:
    _check_modules(model)
    parts = parts_of(model, frozen, local)  # before anything of the model's own runs again
    was_training = model.training
    model.eval()
    try:
        with _single_values_normalised():
            program = _trace(model, input_shape)  # first: on tensors without values, it changes nothing of the model
            keeps_batch = _check_batches(model, input_shape)
        return _convert(program, model, input_shape, parts, keeps_batch=keeps_batch)
    finally:
        model.train(was_training)


@contextmanager
def _single_values_normalised() -> Iterator[None]:
    """Without torch's refusal to normalise a group of one value, which it makes for a batch of one alone."""
    functional: Any = nn.functional
    before = functional._verify_batch_size
    functional._verify_batch_size = lambda size: None
    try:
        yield
    finally:
        functional._verify_batch_size = before


def _check_modules(model: nn.Module) -> None:
    """Refuse, by the layer's name, what mixes records or has state of its own, and parameters that are not plain."""
    padded = _padded(model)
    for name, module in model.named_modules():
        kind, layer = type(module).__name__, f"Layer {name!r}" if name else "The model"
        if name in padded and module.weight[padded[name]].any():
            raise GraphRefused(
                f"{layer} has a padding row of other numbers than zero. Leave padding_idx out, or set the row to zero.",
                layer=name,
            )
        if not isinstance(module, nn.modules.batchnorm._NormBase):
            continue
        if not isinstance(module, nn.modules.instancenorm._InstanceNorm):
            raise GraphRefused(f"{layer} is {kind}, whose statistics mix records. {BATCH_NORM}", layer=name)
        if module.track_running_stats:
            raise GraphRefused(f"{layer} keeps statistics of records. Use track_running_stats=False.", layer=name)
    for name, buffer in model.named_buffers():
        if _dtype(buffer.dtype) not in DTYPES or not 1 <= buffer.numel() <= MAX_CONSTANT_ELEMENTS:
            raise GraphRefused(
                f"Buffer {name!r} has {buffer.numel():,} numbers of {_dtype(buffer.dtype)}; a constant has 1 to "
                f"{MAX_CONSTANT_ELEMENTS:,} of {', '.join(DTYPES)}. Make it an nn.Parameter, or smaller.",
                layer=name,
            )
    owners: dict[int, tuple[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.dtype != torch.float32:
            raise GraphRefused(f"Parameter {name!r} is {_dtype(parameter.dtype)}. Use float32.")
        other, known = owners.setdefault(parameter.untyped_storage().data_ptr(), (name, parameter))
        if known is not parameter and parameter.numel():  # one parameter under two names is tied, and trained once
            raise GraphRefused(
                f"Parameters {other!r} and {name!r} share memory and are two. Tie layers by one parameter, as "
                "self.b.weight = self.a.weight; use F.linear(x, self.a.weight.t()); or give each one of its own."
            )
    if not owners:
        raise GraphRefused("The model has no parameters. Use at least one layer, as nn.Linear.")


def parts_of(model: nn.Module, frozen: tuple[str, ...], local: tuple[str, ...]) -> dict[str, tuple[Parameter, ...]]:
    """A model's parameters in parts, by the graph's names of them. Raises `GraphRefused` where they do not go together.

    Args:
      frozen, local: patterns over names. Parameters with `requires_grad=False` are frozen whether named or not.
    """
    parts: dict[str, list[Parameter]] = {"parameters": [], "frozen": [], "local": []}
    named = dict(model.named_parameters())
    for kind, patterns in (("frozen", frozen), ("local", local)):
        for pattern in patterns:
            if not any(matches((pattern,), name) for name in named):
                raise GraphRefused(
                    f"{kind}={pattern!r} is the name of no parameter. There are {', '.join(list(named)[:20])}."
                )
    for name, value in named.items():
        still, stays = matches(frozen, name) or not value.requires_grad, matches(local, name)
        if still and stays:
            raise GraphRefused(
                f"Parameter {name!r} is frozen and local. What stays is trained: name it in one of them."
            )
        parts["frozen" if still else "local" if stays else "parameters"].append(Parameter(name, tuple(value.shape)))
    if not parts["parameters"]:
        raise GraphRefused(
            "No parameter is trained and released: all are frozen or local. Leave one out of frozen=... and local=...,"
            " best the last layer's."
        )
    return {name: tuple(part) for name, part in parts.items()}


def _padded(model: nn.Module) -> dict[str, int]:
    """Tables of embeddings that have a row for padding, by name."""
    return {
        name: layer.padding_idx
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None
    }


def _check_batches(model: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Refuse a model whose output for one record is another when that record is asked alone or asked again.

    Returns:
      Whether a batch of one keeps its first dimension: `.squeeze()` at the end takes it away, and no other.

    Such a model could still do no harm: the graph is run on one record at a time. But it is not what its author
    thinks it is, so it is said here.
    """
    with _seeded(1):
        records, inputs = torch.randn(3, *input_shape), torch.rand(3, *input_shape) * 2 - 1
    try:
        alone, together, again = _outputs(model, records)
    except Exception:
        try:  # perhaps it counts on inputs in [-1, 1], as the schema makes them
            alone, together, again = _outputs(model, inputs)
        except Exception as error:
            raise GraphRefused(f"forward fails on a batch of shape {(3, *input_shape)}: {_brief(error)}") from None
    if not all(isinstance(output, Tensor) for output in (*alone, together, again)):
        raise GraphRefused("forward does not return one tensor. Return the scores alone.")
    keeps_batch = not (together.dim() == 1 and alone[0].dim() == 0)
    if not keeps_batch:
        alone, again = [output.unsqueeze(0) for output in alone], again.unsqueeze(0)
    if alone[0].dim() < 1 or together.shape != (3, *alone[0].shape[1:]) or alone[0].shape[0] != 1:
        raise GraphRefused(
            f"forward turns a batch of 3 into shape {tuple(together.shape)} and a batch of 1 into "
            f"{tuple(alone[0].shape)}. Keep the batch as the first dimension, and use "
            "batch_first=True where a layer has it."
        )
    if not _close(again, alone[0]):
        raise GraphRefused(
            "forward gives another output when it is called again. Keep no state, draw nothing at random, and give "
            "F.dropout training=self.training."
        )
    if not _close(together, torch.cat(alone)):
        raise GraphRefused(
            "The output for one record depends on the other records of the batch. Use no mean, sum, product, "
            "softmax or attention over the first dimension, and batch_first=True where a layer has it."
        )
    return keeps_batch


def _outputs(model: nn.Module, records: Tensor) -> tuple[list[Any], Any, Any]:
    """Of each record alone, of all together, and of the first one again."""
    with torch.no_grad(), warnings.catch_warnings(action="ignore"), _quiet():
        alone = [model(record.unsqueeze(0)) for record in records]
        return alone, model(records), model(records[:1])


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)


def _trace(model: nn.Module, input_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings(record=True) as seen, torch.random.fork_rng(devices=[]), _quiet():
            warnings.simplefilter("always")
            program: torch.export.ExportedProgram = torch.export.export(model, (torch.zeros(1, *input_shape),))
            _check_traced(program, model)
            # Core ATen only, and what graphs have not in operators that they have.
            program = program.run_decompositions({**torch.export.default_decompositions(), **REWRITES})
    except GraphRefused:
        raise
    except Exception as error:
        if "data-dependent" in str(error):
            raise GraphRefused(
                f"Control flow depends on the values of a record{_line(str(error))}. Use torch.where(condition, a, b)."
            ) from None
        raise GraphRefused(f"The model cannot be exported: {_brief(error)}") from None
    outputs = program.graph_signature.output_specs
    if any("MUTATION" in output.kind.name for output in outputs):
        raise GraphRefused("forward writes into the record or a parameter. Change neither in place.")
    if [output.kind.name for output in outputs if output.kind.name != "TOKEN"] != ["USER_OUTPUT"]:
        raise GraphRefused("forward does not return one tensor. Return the scores alone.")
    for warning in seen:
        kept = re.search(r"attributes? (\S+?),? .*assigned during export", str(warning.message))
        if kept and "._flat_weights[" not in kept.group(1):  # torch's own recurrent layers list their parameters
            raise GraphRefused(f"forward keeps a tensor in {kept.group(1)}. Keep nothing between records.")
    return program


def _check_traced(program: torch.export.ExportedProgram, model: nn.Module) -> None:
    """Refuse what is too long or writes in place, and what changes gradients alone, which decomposing would lose."""
    if len(program.graph.nodes) > MAX_NODES + MAX_TENSORS:
        raise GraphRefused(f"The model has more than {MAX_NODES:,} operators. Use fewer layers or steps.")
    padded = {f"{name}.weight".lstrip("."): row for name, row in _padded(model).items()}
    parameters = program.graph_signature.inputs_to_parameters
    for node in program.graph.nodes:
        row = node.args[2] if node.target is torch.ops.aten.embedding.default and len(node.args) > 2 else -1
        if row >= 0 and padded.get(parameters.get(node.args[0].name, "")) != row:
            raise GraphRefused(
                f"F.embedding has a padding_idx{_where(node)}. Use nn.Embedding(..., padding_idx={row}), whose row is "
                "zero, or leave it out."
            )
        if "set_grad_enabled" in str(node.target) or node.target is torch.ops.aten.detach.default:
            what = "torch.no_grad" if "set_grad" in str(node.target) else ".detach()"
            raise GraphRefused(
                f"forward uses {what}{_where(node)}. Remove it: every parameter is trained by the whole output."
            )
        if "autograd_function" in str(node.target):
            raise GraphRefused(f"forward uses an autograd function of its own{_where(node)}. Use operators of torch.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's log lines and prints, which would quote the researcher's source, and without the model's own."""
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _convert(
    program: torch.export.ExportedProgram,
    model: nn.Module,
    input_shape: tuple[int, ...],
    parts: dict[str, tuple[Parameter, ...]] | None = None,
    *,
    keeps_batch: bool,
) -> Graph:
    signature = program.graph_signature
    writer = _Writer(model)
    for spec in signature.input_specs:
        writer.take_input(spec, program)
    nodes = [node for node in program.graph.nodes if node.op != "placeholder"]
    result = nodes[-1].args[0][-1]  # tokens of operators with effects, which are refused below, come before
    needed = _needed(result)
    for node in nodes[:-1]:
        if node in needed:
            writer.add(node)
    reference = writer.references.get(result, {}) if isinstance(result, fx.Node) else {}
    if "ref" not in reference:
        raise GraphRefused("The output does not come from the record. Return what the layers give.")
    value = result.meta["val"]
    if not keeps_batch:
        value = value.unsqueeze(0)
        reference = writer.append("unsqueeze", [reference, 0], (value,))
    return Graph(
        **(parts_of(model, (), ()) if parts is None else parts),
        input_shape=input_shape,
        nodes=tuple(writer.nodes),
        output=reference["ref"],
        output_shape=tuple(value.shape)[1:],
    )


def _needed(result: Any) -> set[fx.Node]:
    """The nodes that the output needs: what else forward computes is left out."""
    used: set[fx.Node] = set()
    waiting = [result]
    while waiting:
        node = waiting.pop()
        if isinstance(node, fx.Node) and node not in used:
            used.add(node)
            waiting.extend(node.all_input_nodes)
    return used


class _Writer:
    """Turns nodes of torch into nodes of a `Graph`, naming them `n0`, `n1`, ... in order."""

    def __init__(self, model: nn.Module) -> None:
        self.nodes: list[Node] = []
        self.references: dict[fx.Node, dict[str, str]] = {}
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._tied = {name: names[id(value)] for name, value in model.named_parameters(remove_duplicate=False)}

    def take_input(self, spec: Any, program: torch.export.ExportedProgram) -> None:
        """Say what a placeholder stands for: a parameter, a small constant or the record."""
        node = next(node for node in program.graph.nodes if node.name == spec.arg.name)
        kind = spec.kind.name
        if kind == "PARAMETER":
            self.references[node] = {"parameter": self._tied[spec.target]}
        elif kind == "USER_INPUT":
            self.references[node] = {"ref": RECORD}
        elif kind == "CONSTANT_TENSOR" and isinstance(constant := program.constants[spec.target], Tensor):
            if node.users:
                self.references[node] = self._constant(spec.target, constant)
        elif kind == "BUFFER":
            if node.users:
                stored = program.state_dict if spec.persistent else program.constants
                self.references[node] = self._constant(spec.target, stored[spec.target])
        elif kind != "TOKEN":
            raise GraphRefused(f"{spec.target!r:.80} is state besides the parameters. Make it an nn.Parameter.")

    def _constant(self, name: str, value: Tensor) -> dict[str, str]:
        if value.numel() > MAX_CONSTANT_ELEMENTS or value.numel() == 0 or value.requires_grad:
            raise GraphRefused(
                f"The constant tensor {name!r:.80} has {value.numel():,} values or is trained; "
                f"1 to {MAX_CONSTANT_ELEMENTS:,} are allowed. Make it an nn.Parameter."
            )
        dtype = _dtype(value.dtype)
        return self.append("constant", [value.flatten().tolist(), list(value.shape), {"dtype": dtype}], (value,))

    def append(self, op: str, args: list[Any], outputs: tuple[Tensor, ...]) -> dict[str, str]:
        """Write a node, and give the reference to what it makes."""
        if len(self.nodes) >= MAX_NODES:
            raise GraphRefused(f"The model has more than {MAX_NODES:,} operators. Use fewer layers or steps.")
        name = f"n{len(self.nodes)}"
        shapes = tuple((_dtype(output.dtype), tuple(output.shape)) for output in outputs)
        self.nodes.append(Node(name, op, tuple(args), shapes))
        return {"ref": name}

    def add(self, node: fx.Node) -> None:
        """Write one call, or raise `GraphRefused` with its operator, line and what to use instead."""
        if node.op != "call_function":
            if node.op == "get_attr":
                raise GraphRefused(f"forward uses {node.target}{_where(node)}, which is not a plain operator.")
            return
        op = _name(node.target)
        if (op in _DROPPED and node.args) or (op == "alias" and self._is_constant(node.args[0])):
            self.references[node] = self.references[node.args[0]]  # type: ignore[index]
            return
        if op not in OPERATORS or op == "constant":
            raise GraphRefused(f"Operator {op} is not allowed{_where(node)}. {_instead(op)}", operator=op)
        given = _bind(op, node)
        args = [self._argument(argument, given[argument.name], node) for argument in OPERATORS[op].arguments]
        value = node.meta["val"]
        self.references[node] = self.append(op, args, tuple(value) if isinstance(value, list | tuple) else (value,))

    def _is_constant(self, node: Any) -> bool:
        """Whether it stands for a constant: a view of all of one is the constant itself."""
        name = self.references.get(node, {}).get("ref", RECORD)
        return name != RECORD and self.nodes[int(name[1:])].op == "constant"

    def _argument(self, argument: Argument, value: Any, node: fx.Node) -> Any:
        if value is None:
            return None
        if argument.kind in ("tensor", "tensors") and isinstance(value, list | tuple):
            return [self._argument(argument, item, node) for item in value]
        if isinstance(value, fx.Node):
            if value not in self.references:
                raise GraphRefused(
                    f"{_name(node.target)}{_where(node)} depends on a value of the record. Use torch.where."
                )
            return dict(self.references[value])
        if isinstance(value, torch.dtype):
            return {"dtype": _dtype(value)}
        if isinstance(value, list | tuple):
            return [self._argument(argument, item, node) for item in value]
        if isinstance(value, int | float) and argument.kind in ("operand", "scalar") and not abs(value) <= MAX_NUMBER:
            raise GraphRefused(
                f"{_name(node.target)}{_where(node)} has the constant {value:.4g}. Use one within ±{MAX_NUMBER:.0e}."
            )
        if isinstance(value, float) and math.isinf(value):
            return {"number": "inf" if value > 0 else "-inf"}
        if isinstance(value, bool | int | float | str):
            return value
        raise GraphRefused(f"{_name(node.target)}{_where(node)}: {argument.name} is not a constant. Use fixed sizes.")


def _bind(op: str, node: fx.Node) -> dict[str, Any]:
    """Arguments by name, ATen's defaults filled in, ends of slices brought within the tensor."""
    if op == "getitem":
        return dict(zip(("self", "index"), node.args, strict=True))
    schema = node.target._schema  # type: ignore[union-attr]
    given = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    given |= dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
    first = given.get("self")
    if op in ("slice.Tensor", "slice_scatter") and isinstance(first, fx.Node):
        size = first.meta["val"].shape[given["dim"]]
        for name in ("start", "end"):
            if type(given[name]) is int:
                given[name] = max(-size, min(size, given[name]))
    if op == "_to_copy" and given["dtype"] is None:
        given["dtype"] = node.meta["val"].dtype
    return given


def _name(target: Any) -> str:
    if target is python_operator.getitem:
        return "getitem"
    return str(target).removeprefix("aten.").removesuffix(".default")


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _instead(op: str) -> str:
    return next((text for word, text in INSTEAD.items() if word in op), "Use other layers of torch.nn.")


def _where(node: fx.Node) -> str:
    """The layer and the line of the researcher's source, as ` in layer 'norm' at line 12`, where they are known."""
    layers = [name for name, _ in node.meta.get("nn_module_stack", {}).values() if name]
    layer = f" in layer {layers[-1]!r}" if layers else ""
    return layer + _line(node.meta.get("stack_trace") or "")


def _line(trace: str) -> str:
    lines = re.findall(rf'{re.escape(FILENAME)}"?,? line (\d+)|{re.escape(FILENAME)}:(\d+)', trace)
    return f" at line {next(filter(None, lines[-1]))}" if lines else ""


def _brief(error: Exception) -> str:
    """The type and first line of an error of the researcher's code: it saw mock rows only."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
