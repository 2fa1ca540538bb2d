"""Layers of Keras, each as the lines of torch that compute the same, and its weights there and back.

What a layer is told is read from its own `get_config()`, and everything in it is either in a list here or refused by
name: an option that was passed over in silence would train another model than the one that was given. Keras keeps
channels last; around a convolution the translation moves them to where torch has them, and back, so that shapes and the
order of `Flatten` stay Keras's own. No Keras is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.errors import InvalidRequest

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Weight:
    """One of a layer's arrays in Keras's order, and the parameters of torch that it is.

    Args:
      names: of the parameters, within the layer.
      split: the array as those parameters' values.
      join: the parameters' values as the array.
    """

    names: tuple[str, ...]
    split: Callable[[Array], tuple[Array, ...]]
    join: Callable[[Sequence[Array]], Array]


@dataclass(frozen=True)
class Translated:
    """A layer as torch has it.

    Args:
      shape: of what it gives, without the records.
      make: the layer as `__init__` makes it; "" where it has no parameters.
      call: its expression in `forward`, of `x` and of its own name `{0}`.
      activation: what is applied to its outputs, by Keras's name.
      weights: in the order of Keras's `get_weights()`.
    """

    shape: Shape
    make: str = ""
    call: str = "x"
    activation: str = "linear"
    weights: tuple[Weight, ...] = ()


ACTIVATIONS = {
    "linear": "{}",
    "relu": "torch.relu({})",
    "sigmoid": "torch.sigmoid({})",
    "tanh": "torch.tanh({})",
    "softmax": "torch.softmax({}, dim=-1)",
    "log_softmax": "torch.log_softmax({}, dim=-1)",
    "exponential": "torch.exp({})",
    "elu": "nn.functional.elu({})",
    "selu": "torch.selu({})",
    "gelu": "nn.functional.gelu({})",
    "silu": "nn.functional.silu({})",
    "swish": "nn.functional.silu({})",
    "mish": "nn.functional.mish({})",
    "relu6": "nn.functional.relu6({})",
    "softplus": "nn.functional.softplus({})",
    "softsign": "nn.functional.softsign({})",
    "leaky_relu": "nn.functional.leaky_relu({}, negative_slope=0.2)",
}
"""By Keras's name, as torch writes it."""

# What a layer says of itself that changes nothing of what it computes once it has its weights.
_UNREAD = frozenset(
    """
    name trainable dtype batch_input_shape batch_shape input_length seed unroll kernel_initializer bias_initializer
    recurrent_initializer embeddings_initializer beta_initializer gamma_initializer unit_forget_bias time_major
    zero_output_for_mask implementation ragged sparse optional
    """.split()
)
_DRAWN = "Noise and clipping regularise already. Leave it out, or say weight_decay of the training."
_INSTEAD = {
    "BatchNormalization": "It mixes records. Use LayerNormalization or GroupNormalization.",
    "Normalization": "Its mean and variance are of private rows. Leave it out: inputs are scaled by declared bounds.",
    "Bidirectional": "Use LSTM or GRU without it, or write an nn.Module with nn.LSTM(..., bidirectional=True).",
    "SimpleRNN": "Use LSTM or GRU.",
    "RNN": "Use LSTM or GRU.",
    "ConvLSTM2D": "Use Conv2D and LSTM.",
    "SeparableConv1D": "Use Conv1D.",
    "SeparableConv2D": "Use Conv2D.",
    "DepthwiseConv1D": "Use Conv1D with groups.",
    "DepthwiseConv2D": "Use Conv2D with groups.",
    "Conv3D": "Use Conv2D.",
    "GaussianNoise": "DP-SGD adds noise already. Leave it out.",
    "SpatialDropout1D": "Use Dropout.",
    "SpatialDropout2D": "Use Dropout.",
    "AlphaDropout": "Use Dropout.",
    "Lambda": "It holds code of yours that is not in its config. Write the model as an nn.Module.",
    "TextVectorization": "Its words are of private rows. Declare categories in the schema.",
    "StringLookup": "Its words are of private rows. Declare categories in the schema.",
    "IntegerLookup": "Its values are of private rows. Declare categories in the schema.",
    "PReLU": "Use LeakyReLU.",
}
_REGULAR = """
    kernel_regularizer bias_regularizer recurrent_regularizer embeddings_regularizer activity_regularizer
    beta_regularizer gamma_regularizer kernel_constraint bias_constraint recurrent_constraint embeddings_constraint
    beta_constraint gamma_constraint
    """.split()
_NEUTRAL: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(_REGULAR, (None, _DRAWN)),
    "quantization_config": (None, "Leave it out."),
    "lora_rank": (None, "Leave it out; researcher.LoRALinear does it in torch."),
    "data_format": ("channels_last", "Use channels_last, which is Keras's own."),
    "return_state": (False, "Leave it out: a layer gives its outputs alone."),
    "go_backwards": (False, "Leave it out."),
    "stateful": (False, "It would carry one patient's values to the next. Leave it out."),
    "recurrent_dropout": (0.0, "Use a Dropout layer."),
    "dropout": (0.0, "Use a Dropout layer."),
    "mask_zero": (False, "Leave it out: nothing is masked in the translation."),
    "noise_shape": (None, "Leave it out."),
    "rms_scaling": (False, "Leave it out."),
    "threshold": (0.0, "Leave it out."),
    "virtual_batch_size": (None, "Leave it out."),
}
"""By option, the one value that is taken, and what to do about another."""


class Refusal(InvalidRequest):
    """A layer or an option of Keras that has no counterpart here."""


def translated(kind: str, name: str, config: Mapping[str, Any], shape: Shape) -> Translated:
    """One layer, given records of `shape`.

    Args:
      kind: the layer's class, as `"Dense"`.
      config: what the layer says of itself.

    Raises:
      Refusal: the layer, or an option of it, by name and with what to use.
    """
    translate = _LAYERS.get(kind)
    if translate is None:
        instead = _INSTEAD.get(kind, f"There are {', '.join(sorted(_LAYERS))}; or write the model as an nn.Module.")
        raise Refusal(f"Keras's {kind} (layer {name!r}) is not translated. {instead}")
    options = _Options(kind, name, config)
    made = translate(options, shape)
    options.check_all_read()
    return made


def plain_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a layer's options says what it computes, as JSON holds it and as other versions of Keras read it."""
    options: dict[str, Any] = {}
    for name, value in config.items():
        if name in _UNREAD or name in _NEUTRAL:
            continue
        if name.endswith("activation"):
            value = _activation_name(value)
        options[name] = list(value) if isinstance(value, tuple) else value
    return options


def _activation_name(value: Any) -> str:
    if isinstance(value, Mapping):
        told = value.get("config")
        value = told if isinstance(told, str) else value.get("class_name")
    return "linear" if value is None else str(value)


class _Options:
    """A layer's options; each is read, neutral, or refused."""

    def __init__(self, kind: str, name: str, config: Mapping[str, Any]) -> None:
        self._kind, self._name, self._config = kind, name, config
        self._read: set[str] = set()
        policy = config.get("dtype", "float32")
        policy = policy.get("config", {}).get("name") if isinstance(policy, Mapping) else policy
        if policy not in ("float32", None):
            raise self.refused("dtype", policy, "Use float32.")

    def __call__(self, option: str, default: Any = None) -> Any:
        self._read.add(option)
        value = self._config.get(option, default)
        return tuple(value) if isinstance(value, list) else value

    def one(self, option: str, default: Any = None) -> int:
        """An option of one number, which Keras may give as a tuple of one."""
        value = self(option, default)
        return int(value[0] if isinstance(value, tuple) else value)

    def two(self, option: str, default: Any = None) -> tuple[int, int]:
        value = self(option, default)
        return (int(value[0]), int(value[1])) if isinstance(value, tuple) else (int(value), int(value))

    def activation(self, option: str = "activation") -> str:
        """The activation's name. Raises `Refusal` for a function of one's own."""
        name = _activation_name(self(option, "linear"))
        if name not in ACTIVATIONS:
            raise self.refused(option, name, f"There are {', '.join(ACTIVATIONS)}; others as layers, as ELU or ReLU.")
        return name

    def refused(self, option: str, value: Any, instead: str) -> Refusal:
        return Refusal(f"{self._kind}({option}={value!r:.60}) (layer {self._name!r}) is not translated. {instead}")

    def rank(self, shape: Shape, *ranks: int) -> None:
        """Raise `Refusal` unless records have one of these numbers of axes, and their last one is known."""
        if len(shape) not in ranks or shape[-1] is None:
            raise Refusal(
                f"{self._kind} (layer {self._name!r}) gets records of shape {shape}, which is not translated."
            )

    def check_all_read(self) -> None:
        for option, value in self._config.items():
            if option in self._read or option in _UNREAD:
                continue
            neutral, instead = _NEUTRAL.get(option, (None, "Leave it out."))
            if value != neutral:
                raise self.refused(option, value, instead)


def _moved(name: str, *axes: int) -> Weight:
    """An array whose axes torch has in another order."""
    back = tuple(int(place) for place in np.argsort(axes))
    return Weight((name,), lambda array: (array.transpose(axes),), lambda values: values[0].transpose(back))


def _same(name: str) -> Weight:
    return Weight((name,), lambda array: (array,), lambda values: values[0])


def _linear(options: _Options, shape: Shape) -> Translated:
    options.rank(shape, 1, 2, 3)
    units, bias = int(options("units")), bool(options("use_bias", True))
    weights = (_moved("weight", 1, 0), *([_same("bias")] if bias else []))
    make = f"nn.Linear({shape[-1]}, {units}{'' if bias else ', bias=False'})"
    return Translated((*shape[:-1], units), make, "{0}(x)", options.activation(), weights)


def _recurrent(torch_name: str) -> Callable[[_Options, Shape], Translated]:
    def translate(options: _Options, shape: Shape) -> Translated:
        options.rank(shape, 2)
        units, bias = int(options("units")), bool(options("use_bias", True))
        for option, wanted in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
            if (given := options.activation(option)) != wanted:
                raise options.refused(option, given, f"Use {wanted!r}.")
        gru = torch_name == "GRU"
        if gru and not options("reset_after", False):
            raise options.refused("reset_after", False, "Use reset_after=True, which is Keras's own.")
        # Keras has a GRU's gates as update, reset, new and torch as reset, update, new. An LSTM's are in one order.
        order = (1, 0, 2) if gru else (0, 1, 2, 3)
        weights = [_gates("weight_ih_l0", units, order), _gates("weight_hh_l0", units, order)]
        if bias:
            weights.append(_two_biases(units, order) if gru else _summed_biases())
        sequences = bool(options("return_sequences", False))
        make = f"nn.{torch_name}({shape[-1]}, {units}, {'' if bias else 'bias=False, '}batch_first=True)"
        call = "{0}(x)[0]" if sequences else "{0}(x)[0][:, -1]"
        return Translated((shape[0], units) if sequences else (units,), make, call, "linear", tuple(weights))

    return translate


def _in_order(rows: Array, units: int, order: tuple[int, ...]) -> Array:
    """Rows of gates, one below the other, in another order. Of these orders each is its own inverse."""
    return np.concatenate([rows[gate * units : (gate + 1) * units] for gate in order])


def _gates(name: str, units: int, order: tuple[int, ...]) -> Weight:
    return Weight(
        (name,),
        lambda array: (_in_order(array.T, units, order),),
        lambda values: _in_order(values[0], units, order).T,
    )


def _summed_biases() -> Weight:
    """Keras has one bias where torch adds two."""
    return Weight(
        ("bias_ih_l0", "bias_hh_l0"),
        lambda array: (array, np.zeros_like(array)),
        lambda values: values[0] + values[1],
    )


def _two_biases(units: int, order: tuple[int, ...]) -> Weight:
    return Weight(
        ("bias_ih_l0", "bias_hh_l0"),
        lambda array: (_in_order(array[0], units, order), _in_order(array[1], units, order)),
        lambda values: np.stack([_in_order(value, units, order) for value in values]),
    )


def _span(size: int | None, window: int, stride: int, *, padded: bool) -> int | None:
    """How many windows fit into an axis."""
    if size is None:
        return None
    return math.ceil(size / stride) if padded else (size - window) // stride + 1


def _pads(options: _Options, size: int | None, window: int, stride: int) -> tuple[int, int]:
    """What Keras's `same` puts before and after an axis: where it is odd, one more after."""
    if stride == 1:
        total = window - 1
    elif size is None:
        raise options.refused("padding", "same", "Say the input's whole shape, or use padding='valid'.")
    else:
        total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _convolution(axes: int) -> Callable[[_Options, Shape], Translated]:
    def translate(options: _Options, shape: Shape) -> Translated:
        options.rank(shape, axes + 1)
        read = (lambda option, default=None: (options.one(option, default),)) if axes == 1 else options.two
        kernel, strides, dilation = read("kernel_size"), read("strides", 1), read("dilation_rate", 1)
        filters, groups = int(options("filters")), int(options("groups", 1))
        bias, padding = bool(options("use_bias", True)), options("padding", "valid")
        windows = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
        pads = [(0, 0)] * axes
        if padding == "same":
            pads = [
                _pads(options, size, window, stride)
                for size, window, stride in zip(shape[:-1], windows, strides, strict=True)
            ]
        elif padding == "causal" and axes == 1:
            pads = [(windows[0] - 1, 0)]
        elif padding != "valid":
            raise options.refused("padding", padding, "Use 'valid' or 'same'.")
        inside = _channels_first("x", axes)
        if any(pad != (0, 0) for pad in pads):
            numbers = ", ".join(str(number) for pad in reversed(pads) for number in pad)
            inside = f"nn.functional.pad({inside}, ({numbers}))"
        more = {"stride": strides, "dilation": dilation}
        written = [f"{name}={_size(value)}" for name, value in more.items() if set(value) != {1}]
        written += [f"groups={groups}"] if groups != 1 else []
        written += [] if bias else ["bias=False"]
        make = f"nn.Conv{axes}d({', '.join([str(shape[-1]), str(filters), _size(kernel), *written])})"
        sizes = tuple(
            _span(size if size is None or padding == "valid" else size + sum(pad), window, stride, padded=False)
            for size, window, stride, pad in zip(shape[:-1], windows, strides, pads, strict=True)
        )
        moved = _moved("weight", *((2, 1, 0) if axes == 1 else (3, 2, 0, 1)))
        weights = (moved, *([_same("bias")] if bias else []))
        call = _channels_last(f"{{0}}({inside})", axes)
        return Translated((*sizes, filters), make, call, options.activation(), weights)

    return translate


def _channels_first(text: str, axes: int) -> str:
    return f"{text}.transpose(1, 2)" if axes == 1 else f"{text}.permute(0, 3, 1, 2)"


def _channels_last(text: str, axes: int) -> str:
    return f"{text}.transpose(1, 2)" if axes == 1 else f"{text}.permute(0, 2, 3, 1)"


def _size(value: tuple[int, ...]) -> str:
    return str(value[0]) if len(set(value)) == 1 else repr(value)


def _pooling(axes: int, function: str) -> Callable[[_Options, Shape], Translated]:
    def translate(options: _Options, shape: Shape) -> Translated:
        options.rank(shape, axes + 1)
        read = (lambda option, default=None: (options.one(option, default),)) if axes == 1 else options.two
        window = read("pool_size", 2)
        strides = read("strides") if options("strides") is not None else window
        if (padding := options("padding", "valid")) != "valid":
            raise options.refused("padding", padding, "Use padding='valid'.")
        sizes = tuple(
            _span(size, one, stride, padded=False)
            for size, one, stride in zip(shape[:-1], window, strides, strict=True)
        )
        stride = "" if strides == window else f", stride={_size(strides)}"
        inside = f"nn.functional.{function}_pool{axes}d({_channels_first('x', axes)}, {_size(window)}{stride})"
        return Translated((*sizes, shape[-1]), call=_channels_last(inside, axes))

    return translate


def _over_all(axes: int, function: str) -> Callable[[_Options, Shape], Translated]:
    def translate(options: _Options, shape: Shape) -> Translated:
        options.rank(shape, axes + 1)
        keep = bool(options("keepdims", False))
        over = "1" if axes == 1 else "(1, 2)"
        call = f"x.{function}(dim={over}{', keepdim=True' if keep else ''})"
        return Translated((*((1,) * axes if keep else ()), shape[-1]), call=call)

    return translate


def _affine(options: _Options) -> bool:
    center, scale = bool(options("center", True)), bool(options("scale", True))
    if center != scale:
        raise options.refused("center", center, "Use center and scale alike, both True or both False.")
    return center


def _last_axis(options: _Options, shape: Shape) -> None:
    axis = options("axis", -1)
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if axis not in (-1, len(shape)):
        raise options.refused("axis", axis, "Use axis=-1.")


def _layer_norm(options: _Options, shape: Shape) -> Translated:
    options.rank(shape, 1, 2, 3)
    _last_axis(options, shape)
    affine, epsilon = _affine(options), float(options("epsilon", 1e-3))
    make = f"nn.LayerNorm({shape[-1]}, eps={epsilon!r}{'' if affine else ', elementwise_affine=False'})"
    return Translated(shape, make, "{0}(x)", weights=(_same("weight"), _same("bias")) if affine else ())


def _group_norm(options: _Options, shape: Shape) -> Translated:
    options.rank(shape, 1, 2, 3)
    _last_axis(options, shape)
    affine, epsilon, groups = _affine(options), float(options("epsilon", 1e-3)), int(options("groups", 32))
    make = f"nn.GroupNorm({shape[-1] if groups == -1 else groups}, {shape[-1]}, eps={epsilon!r}"
    make += ")" if affine else ", affine=False)"
    axes = len(shape) - 1
    call = "{0}(x)" if not axes else _channels_last(f"{{0}}({_channels_first('x', axes)})", axes)
    return Translated(shape, make, call, weights=(_same("weight"), _same("bias")) if affine else ())


def _embedding(options: _Options, shape: Shape) -> Translated:
    if len(shape) not in (1, 2):
        options.rank(shape, 1)
    labels, width = int(options("input_dim")), int(options("output_dim"))
    make = f"nn.Embedding({labels}, {width})"
    return Translated((*shape, width), make, "{0}(x.long())", weights=(_same("weight"),))


def _flatten(options: _Options, shape: Shape) -> Translated:
    size = None if None in shape else math.prod(size or 0 for size in shape)
    return Translated((size,), call="x.flatten(1)")


def _reshape(options: _Options, shape: Shape) -> Translated:
    target = tuple(int(size) for size in options("target_shape"))
    if None in shape or -1 in target:
        raise options.refused("target_shape", target, "Say every size, of the model's input too.")
    return Translated(target, call=f"x.flatten(1).unflatten(1, {target!r})")


def _dropout(options: _Options, shape: Shape) -> Translated:
    return Translated(shape, f"nn.Dropout({float(options('rate'))!r})", "{0}(x)")


def _activation(options: _Options, shape: Shape) -> Translated:
    return Translated(shape, activation=options.activation())


def _softmax(options: _Options, shape: Shape) -> Translated:
    _last_axis(options, shape)
    return Translated(shape, activation="softmax")


def _relu(options: _Options, shape: Shape) -> Translated:
    slope, most = float(options("negative_slope", 0.0) or 0.0), options("max_value")
    if most is not None and slope:
        raise options.refused("max_value", most, "Leave max_value or negative_slope out.")
    if most is not None:
        return Translated(shape, call=f"x.clamp(0, {float(most)!r})")
    if slope:
        return Translated(shape, call=f"nn.functional.leaky_relu(x, negative_slope={slope!r})")
    return Translated(shape, activation="relu")


def _leaky_relu(options: _Options, shape: Shape) -> Translated:
    slope = options("negative_slope")
    slope = options("alpha", 0.3) if slope is None else slope  # Keras 2 called it alpha
    return Translated(shape, call=f"nn.functional.leaky_relu(x, negative_slope={float(slope)!r})")


def _elu(options: _Options, shape: Shape) -> Translated:
    return Translated(shape, call=f"nn.functional.elu(x, alpha={float(options('alpha', 1.0))!r})")


_LAYERS: dict[str, Callable[[_Options, Shape], Translated]] = {
    "Dense": _linear,
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
    "Conv1D": _convolution(1),
    "Conv2D": _convolution(2),
    "MaxPooling1D": _pooling(1, "max"),
    "MaxPooling2D": _pooling(2, "max"),
    "AveragePooling1D": _pooling(1, "avg"),
    "AveragePooling2D": _pooling(2, "avg"),
    "GlobalMaxPooling1D": _over_all(1, "amax"),
    "GlobalMaxPooling2D": _over_all(2, "amax"),
    "GlobalAveragePooling1D": _over_all(1, "mean"),
    "GlobalAveragePooling2D": _over_all(2, "mean"),
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dropout": _dropout,
    "Activation": _activation,
    "Softmax": _softmax,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
}
KINDS = tuple(sorted(_LAYERS))
