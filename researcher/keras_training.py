"""What a Keras model was compiled with, as settings of a training here; and the model given back, trained.

model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
trained = differentially_private_train(model, frame, epsilon=1.0, bounds={...})
trained.predict(frame)
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from policies.errors import UnsupportedMechanism
from policies.privacy.outcomes import OUTCOMES, Outcome
from researcher.keras import CHANCES, last_activation, load
from researcher.local_tables import LocalTable
from researcher.results import Result

_LOSSES = {
    "binarycrossentropy": "binary_cross_entropy",
    "categoricalcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "meansquarederror": "mean_squared_error",
    "mse": "mean_squared_error",
    "huber": "huber",
    "poisson": "poisson",
}
_INSTEAD = {
    "meanabsoluteerror": "Use 'huber' or 'mse'.",
    "mae": "Use 'huber' or 'mse'.",
    "hinge": "Use 'binary_crossentropy'.",
    "focal": "Use 'binary_crossentropy'.",
}
# What an optimizer may say of itself beside what is read, and change nothing by it.
_NEUTRAL: dict[str, Any] = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "nesterov": False,
    "amsgrad": False,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "jit_compile": None,
}
_WHY = {
    "clipnorm": "Every record's gradient is clipped: say max_grad_norm.",
    "global_clipnorm": "Every record's gradient is clipped: say max_grad_norm.",
    "clipvalue": "Every record's gradient is clipped: say max_grad_norm.",
    "weight_decay": "Keras decays weights apart from the gradient, which nothing here does. Leave it out.",
    "use_ema": "Say average_last of a Study, which averages releases at no cost.",
}


def compiled_settings(model: Any) -> dict[str, Any]:
    """Loss, optimizer, learning rate and metrics that a model was compiled with; empty where it was not.

    The loss is one of ours that takes the model's outputs as `researcher.keras.for_loss` gives them.

    Raises `UnsupportedMechanism` for what nothing here can honour, by name.
    """
    told = model.get_compile_config() if getattr(model, "compiled", True) and model.optimizer is not None else None
    if not told:
        return {}
    for name in ("loss_weights", "weighted_metrics"):
        if told.get(name):
            raise UnsupportedMechanism(f"compile({name}={told[name]!r:.60}) is not taken. Leave it out.")
    settings = _optimizer(model.optimizer)
    if told.get("loss") is not None:
        # A loss's options are not all in its config: of Huber, delta is not.
        options = getattr(getattr(model, "loss", None), "_fn_kwargs", {})
        settings |= _loss(told["loss"], options, last_activation(model))
    if told.get("metrics"):
        metrics = told["metrics"] if isinstance(told["metrics"], list | tuple) else [told["metrics"]]
        settings["metrics"] = tuple(_named(metric)[0] for metric in metrics)
    return settings


def _named(value: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and options of a loss or metric as Keras writes it down."""
    if isinstance(value, Mapping):
        told = value.get("config")
        if isinstance(told, str):  # a function
            return told, {}
        return str(value.get("class_name", value)), told if isinstance(told, Mapping) else {}
    return str(getattr(value, "__name__", value)), {}


def _loss(value: Any, more: Mapping[str, Any], last: str) -> dict[str, Any]:
    name, written = _named(value)
    options = {**written, **more}
    plain = name.lower().replace("_", "")
    loss = _LOSSES.get(plain)
    if loss is None:
        known = "'binary_crossentropy', '(sparse_)categorical_crossentropy', 'mse', 'huber', 'poisson'"
        instead = _INSTEAD.get(plain, f"There are {known}.")
        raise UnsupportedMechanism(f"compile(loss={name!r:.60}) is not taken. {instead}")
    for option in ("label_smoothing", "ignore_class"):
        if options.get(option):
            raise UnsupportedMechanism(f"{name}({option}={options[option]!r}) is not taken. Leave it out.")
    if options.get("reduction", "sum_over_batch_size") not in ("sum_over_batch_size", "auto", "mean", "none", None):
        raise UnsupportedMechanism(
            f"{name}(reduction={options['reduction']!r}) is not taken: gradients are divided by the expected batch."
        )
    settings: dict[str, Any] = {"loss": loss}
    logits = bool(options.get("from_logits", False))
    wanted = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "poisson": "exponential"}.get(loss)
    if wanted and loss != "poisson" and logits == (last in CHANCES):
        raise UnsupportedMechanism(
            f"compile(loss={name!r}) with from_logits={logits} does not go with a model that ends in {last!r}."
            f" End it in {wanted!r}, or in no activation and say from_logits=True."
        )
    if wanted and not logits and last != wanted:
        raise UnsupportedMechanism(
            f"compile(loss={name!r}) goes with a model that ends in {wanted!r}, and this one ends in {last!r}."
        )
    if loss == "binary_cross_entropy" and logits:
        settings["loss"] = "binary_cross_entropy_with_logits"
    if loss == "huber":
        settings["huber_delta"] = float(options.get("delta", 1.0))
    return settings


def _optimizer(optimizer: Any) -> dict[str, Any]:
    kind, told = type(optimizer).__name__, optimizer.get_config()
    name = {"adam": "adam", "sgd": "sgd"}.get(str(told.get("name", kind)).lower(), "")
    name = name or {"Adam": "adam", "SGD": "sgd"}.get(kind, "")
    if not name or kind in ("AdamW", "LossScaleOptimizer"):
        raise UnsupportedMechanism(f"compile(optimizer={kind!r}) is not taken. Use 'adam' or 'sgd'.")
    for option, neutral in _NEUTRAL.items():
        value = told.get(option, neutral)
        if isinstance(neutral, float) and isinstance(value, int | float):
            value = round(float(value), 6)
        if value != neutral and value:
            why = _WHY.get(option, "Leave it out.")
            raise UnsupportedMechanism(f"{kind}({option}={value!r:.60}) is not taken. {why}")
    rate = told["learning_rate"]
    if not isinstance(rate, int | float | np.floating):
        raise UnsupportedMechanism(
            f"{kind}(learning_rate=...) is a schedule, which is not taken. Give a number: learning_rate=0.001."
        )
    settings: dict[str, Any] = {"optimizer": name, "learning_rate": float(f"{float(rate):.6g}")}
    if name == "sgd" and told.get("momentum"):
        settings["momentum"] = float(f"{float(told['momentum']):.6g}")
    return settings


def copy_of(model: Any) -> Any:
    """A model of Keras like the one that was given, with its weights, compiled as it was."""
    copied = type(model).from_config(model.get_config())
    copied.set_weights(model.get_weights())
    if getattr(model, "optimizer", None) is not None:
        copied.compile_from_config(model.get_compile_config())
        options = getattr(getattr(model, "loss", None), "_fn_kwargs", None)
        if options is not None:  # Keras's own copy of a Huber loss forgets its delta
            copied.loss._fn_kwargs = dict(options)
    return copied


def returned(model: Any, result: Result, table: LocalTable) -> Any:
    """A copy of the model with the released weights, whose `predict` takes rows as they were trained on.

    It gives what Keras's own `predict` gives, numbers in the target's own units.
    """
    trained = load(copy_of(model), result.weights)
    assert result.study is not None
    number = OUTCOMES[result.study.training.loss] is Outcome.NUMBER
    plain = trained.predict

    def predict(self: Any, rows: Any, **options: Any) -> np.ndarray[Any, Any]:
        """What the model says of rows like those that it was trained on; a number in the target's own units."""
        options.setdefault("verbose", 0)
        inputs = np.asarray(table.inputs(rows), dtype=np.float32)
        outputs = np.asarray(plain(inputs, **options))
        return np.asarray(result.in_units(outputs)) if number else outputs

    trained.predict = types.MethodType(predict, trained)
    return trained
