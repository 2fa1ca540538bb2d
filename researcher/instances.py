"""A model that was made already, as the class that makes it again at a hospital.

Hospitals are sent source. Of layers of torch, alone or in `nn.Sequential`, it is written from what they say of
themselves, and made once here to see that it gives the same layers. An instance of the researcher's own class stands
for that class, where calling it without arguments gives the same layers.
"""

from __future__ import annotations

import ast
import copy
import itertools
import linecache
from typing import Any

import torch
from torch import nn

from policies.errors import InvalidRequest
from policies.python_trees import parsed

WIDEST = 100  # letters of a line
_numbers = itertools.count()


def class_of(model: nn.Module) -> type[nn.Module]:
    """A class whose instances have the model's layers. Raises `InvalidRequest`, saying what to write."""
    kind = type(model)
    if not kind.__module__.startswith("torch.nn."):
        _check_same(model, kind, f"Give {kind.__name__} default arguments, or give a class of its own that calls it.")
        return kind
    made = class_from(_text(model))
    _check_same(model, made, "Write it as a class.")
    return made


def copy_of(model: nn.Module) -> nn.Module:
    """The model with its weights, which training here does not change."""
    return copy.deepcopy(model)


def _text(model: nn.Module) -> str:
    base = type(model).__name__
    arguments = _children(model) if type(model) is nn.Sequential else _arguments(model)
    line = f"        super().__init__({', '.join(arguments)})"
    if len(line) > WIDEST:
        line = "        super().__init__(\n" + "".join(f"            {part},\n" for part in arguments) + "        )"
    return f"class Model(nn.{base}):\n    def __init__(self):\n{line}\n"


def _children(model: nn.Sequential) -> list[str]:
    names = [name for name, _ in model.named_children()]
    layers = [_written(layer) for layer in model]
    if names == [str(number) for number in range(len(names))]:
        return layers
    pairs = ", ".join(f"({name!r}, {layer})" for name, layer in zip(names, layers, strict=True))
    return [f"OrderedDict([{pairs}])"]


def _written(layer: nn.Module) -> str:
    arguments = _children(layer) if type(layer) is nn.Sequential else _arguments(layer)
    return f"nn.{type(layer).__name__}({', '.join(arguments)})"


def _arguments(layer: nn.Module) -> list[str]:
    """What a layer of torch says of itself is a call that makes it, where it has no layers inside."""
    kind, told = type(layer), repr(layer)
    try:
        (statement,) = parsed(told).body
        call = statement.value if isinstance(statement, ast.Expr) else None
    except (SyntaxError, ValueError):
        call = None
    plain = getattr(nn, kind.__name__, None) is kind and not any(True for _ in layer.children())
    if not plain or not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise InvalidRequest(f"{kind.__name__} cannot be written as it was made. Write the model as a class.")
    return [ast.unparse(part) for part in (*call.args, *call.keywords)]


def class_from(text: str) -> type[nn.Module]:
    """The class `Model` of a text, which `inspect` and `linecache` find under a file's name of its own."""
    name = f"<model {next(_numbers)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    from collections import OrderedDict

    namespace: dict[str, Any] = {"nn": nn, "torch": torch, "OrderedDict": OrderedDict, "__name__": "model"}
    try:
        exec(compile(text, name, "exec"), namespace)
    except SyntaxError:
        raise InvalidRequest("The model cannot be written as it was made. Write it as a class.") from None
    made: type[nn.Module] = namespace["Model"]
    return made


def _check_same(model: nn.Module, kind: type[nn.Module], instead: str) -> None:
    """Raise `InvalidRequest` unless the class makes layers, names, shapes and buffers like the model's."""
    try:
        with torch.random.fork_rng(devices=[]):  # of what the researcher draws later, nothing changes
            made = kind()
    except Exception as error:  # whatever the researcher's class does
        raise InvalidRequest(
            f"A hospital makes {kind.__name__}(), which fails here: {type(error).__name__}: {error}. {instead}"
        ) from None
    if _described(made) != _described(model):
        raise InvalidRequest(f"{kind.__name__}() makes another model than the one that was given. {instead}")


def _described(model: nn.Module) -> tuple[Any, ...]:
    layers = [(name, type(layer).__name__, layer.extra_repr()) for name, layer in model.named_modules() if name]
    parameters = [(name, tuple(value.shape)) for name, value in model.named_parameters()]
    buffers = [(name, value.tolist()) for name, value in model.named_buffers()]
    return model.extra_repr(), layers, parameters, buffers
