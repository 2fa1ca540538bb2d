"""Keras models at hospitals and on tables of one's own: written as readable torch, and given their weights back.

    import keras
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])

    study = researcher.Study("flu-2026", flu, model, researcher.Training(...))     # owners read torch
    ...
    researcher.keras.load(model, study.run("FedAvg").weights)                      # and the weights are Keras's again

What is read of the model is what it says of itself (`layers`, `get_config`, `get_weights`); Keras is the researcher's
own package, of any backend, and is never imported here.
"""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import InvalidRequest
from policies.source.allowed_names import ATTRIBUTES, METHODS, RESERVED
from researcher.keras_layers import ACTIVATIONS, Refusal, Shape, Translated, translated
from researcher.state import Tensors

if TYPE_CHECKING:
    from torch import nn

WIDEST = 100  # letters of a line
PACKAGES = ("keras", "tf_keras", "tensorflow")
CHANCES = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy_with_logits", "exponential": "poisson"}
"""By the activation that ends a model, the loss that takes its outputs before it."""


@dataclass(frozen=True)
class Layer:
    """One layer of a Keras model, by the name that it has in torch."""

    name: str
    layer: Any
    made: Translated


def is_keras(model: object) -> bool:
    """Whether it is a model of Keras, whatever its backend."""
    return any(
        base.__name__ in ("Model", "Sequential", "Functional") and base.__module__.partition(".")[0] in PACKAGES
        for base in type(model).__mro__
    )


def layers_of(model: Any) -> list[Layer]:
    """A model's layers in the order in which records pass them.

    Raises `Refusal` where they are no chain, or hold what has no counterpart in torch: by name, with what to use.
    """
    counts: dict[str, Iterator[int]] = {}
    taken: set[str] = set()
    layers = []
    chain = list(_chain(model))
    shape = _input_shape(model)
    for layer in chain:
        kind = type(layer).__name__
        made = translated(kind, str(layer.name), layer.get_config(), shape)
        name = _name_of(kind, str(layer.name), counts.setdefault(kind, itertools.count(1)), taken)
        if made.weights and not layer.trainable:
            raise Refusal(
                f"Layer {layer.name!r} is not trainable. Give Study frozen={name + '.*'!r} instead, and"
                f" {layer.name}.trainable = True."
            )
        layers.append(Layer(name, layer, made))
        shape = made.shape
    if not any(layer.made.weights for layer in layers):
        raise Refusal(f"The Keras model {model.name!r} has no layer with weights: there is nothing to train.")
    return layers


def source_of(model: Any, *, logits: bool = False) -> str:
    """The readable torch class that computes what the Keras model computes.

    Args:
      logits: leave out a last softmax, sigmoid or exponential, for the losses that take outputs before it.
    """
    layers = layers_of(model)
    making = [f"self.{layer.name} = {layer.made.make}" for layer in layers if layer.made.make]
    lines = []
    for number, layer in enumerate(layers, 1):
        activation = layer.made.activation
        if logits and number == len(layers) and activation in CHANCES:
            activation = "linear"
        expression = layer.made.call.format(f"self.{layer.name}")
        whole = ACTIVATIONS[activation].format(expression)
        if len(whole) > WIDEST - 12 and activation != "linear":
            lines += [expression, ACTIVATIONS[activation].format("x")]
        else:
            lines.append(whole)
    body = [f"x = {line}" for line in lines if line != "x"]
    return (
        "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        + "".join(f"        {line}\n" for line in making)
        + "\n    def forward(self, x):\n"
        + "".join(f"        {line}\n" for line in body)
        + "        return x\n"
    )


def last_activation(model: Any) -> str:
    """What is applied to the model's last outputs, by Keras's name."""
    return layers_of(model)[-1].made.activation


def to_torch(model: Any, *, logits: bool = False) -> nn.Module:
    """The Keras model as a model of torch with the same weights, which `Study` takes.

    Args:
      model: Sequential, or functional where each layer follows the one before it; built, as by `keras.Input`.
      logits: leave out a last softmax, sigmoid or exponential, for the losses that take outputs before it:
        `cross_entropy`, `binary_cross_entropy_with_logits`, `poisson`.

    Raises:
      Refusal: a layer or option that is not translated, by name and with what to use.
    """
    import torch

    from researcher.instances import class_from
    from researcher.parameters import DRAWING, load_parameters

    if not is_keras(model):
        raise InvalidRequest(f"{type(model).__name__} is no model of Keras.")
    text = source_of(model, logits=logits)
    with DRAWING, torch.random.fork_rng(devices=[]):
        made: nn.Module = class_from(text)()
    load_parameters(made, tensors_of(model))
    return made


def for_loss(model: Any, loss: str) -> nn.Module:
    """The Keras model as a model of torch whose outputs are those that a loss of ours takes."""
    return to_torch(model, logits=CHANCES.get(last_activation(model)) == loss)


def source_for(model: Any, loss: str) -> str:
    """The readable torch class of `for_loss`."""
    return source_of(model, logits=CHANCES.get(last_activation(model)) == loss)


def check_takes_scaled(model: Any) -> None:
    """Raise `Refusal` where the model looks its inputs up in an Embedding: those of a table are scaled by bounds."""
    for layer in layers_of(model):
        if type(layer.layer).__name__ == "Embedding":
            raise Refusal(
                f"Layer {layer.layer.name!r} (Embedding) takes numbers of labels, and a table's inputs are scaled to"
                " -1 to 1, a category as one input for each label. Use Dense."
            )


def tensors_of(model: Any) -> Tensors:
    """The Keras model's weights, by the names and in the layouts of `to_torch(model)`."""
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for layer in layers_of(model):
        arrays = [np.asarray(array) for array in layer.layer.get_weights()]
        if len(arrays) != len(layer.made.weights):
            raise Refusal(
                f"Layer {layer.layer.name!r} has {len(arrays)} arrays of weights and not {len(layer.made.weights)}."
                " Say its input's shape, as keras.Input((10,)) before it."
            )
        for weight, array in zip(layer.made.weights, arrays, strict=True):
            for name, value in zip(weight.names, weight.split(array), strict=True):
                tensors[f"{layer.name}.{name}"] = np.array(value, dtype=np.float32, order="C")
    return tensors


def load(model: Any, weights: Mapping[str, Any]) -> Any:
    """Put released weights, as `result.weights`, into the Keras model that the study was made of; the model itself.

    Raises `InvalidRequest` where they are another model's.
    """
    layers = layers_of(model)
    wanted = {f"{layer.name}.{name}" for layer in layers for weight in layer.made.weights for name in weight.names}
    if wanted != set(weights):
        raise InvalidRequest(
            f"The weights are those of another model: {', '.join(sorted(wanted ^ set(weights)))[:200]} differ."
        )
    for layer in layers:
        arrays = [
            weight.join([np.asarray(weights[f"{layer.name}.{name}"], dtype=np.float32) for name in weight.names])
            for weight in layer.made.weights
        ]
        if arrays:
            layer.layer.set_weights([np.ascontiguousarray(array) for array in arrays])
    return model


def _chain(model: Any) -> Iterator[Any]:
    """Layers one after the other, those of a Sequential within a Sequential among them."""
    kind = type(model).__name__
    if kind not in ("Sequential", "Functional", "Model") or type(model).__module__.partition(".")[0] not in PACKAGES:
        raise Refusal(
            f"{kind} is a class of your own, whose call() is not in its config. Write it as keras.Sequential([...]),"
            " or as an nn.Module."
        )
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    if kind != "Sequential":
        _check_chain(model, layers)
    for layer in layers:
        if is_keras(layer):
            yield from _chain(layer)
        else:
            yield layer


def _check_chain(model: Any, layers: list[Any]) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise Refusal(f"The Keras model {model.name!r} has several inputs or outputs. Write it as an nn.Module.")
    output = model.inputs[0]
    for layer in layers:
        try:
            follows = layer.input is output and not is_keras(layer)
            output = layer.output
        except (AttributeError, ValueError):
            follows = False
        if not follows:
            raise Refusal(
                f"Layer {layer.name!r} ({type(layer).__name__}) does not follow the one before it alone: branches and"
                " shared layers are not translated. Write the model as an nn.Module."
            )
    if output is not model.outputs[0]:
        raise Refusal(f"The Keras model {model.name!r} gives something else than its last layer's outputs.")


def _input_shape(model: Any) -> Shape:
    try:
        shape = model.input_shape
    except (AttributeError, ValueError, RuntimeError):
        shape = None
    if not isinstance(shape, tuple) or not shape or isinstance(shape[0], tuple):
        raise Refusal(
            f"The Keras model {getattr(model, 'name', '')!r} has no input of one shape yet. Begin it with"
            " keras.Input((10,)), the number of a row's inputs."
        )
    return tuple(None if size is None else int(size) for size in shape[1:])


def _name_of(kind: str, own: str, count: Iterator[int], taken: set[str]) -> str:
    """The layer's own name; where Keras numbered it over all models of the process, by its place in this one."""
    snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
    number = next(count)
    name = f"{snake}{number}" if re.fullmatch(snake + r"(_\d+)?", own) else re.sub(r"\W+", "_", own, flags=re.ASCII)
    name = name.strip("_")
    reserved = name in RESERVED | METHODS | ATTRIBUTES or keyword.iskeyword(name) or not name.isidentifier()
    name = f"layer_{name}" if reserved else name
    while name in taken:
        name += "_"
    taken.add(name)
    return name
