"""What single calls of an Opacus script say, as settings of a training: make_private, a loss, an optimizer, a loader.

Each function reads one call and raises `NotPlain` or `UnsupportedMechanism`, with the reason, where it says something
that has no counterpart here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from policies.privacy.other_names import FUNCTIONAL, loss_settings, optimizer_settings
from policies.source.script_values import NotPlain, Values, arguments, called, plain_arguments, short

DEFAULT_DELTA = 1e-5
_DEFAULT_RATE = 1e-3  # of torch's SGD and Adam, where none is given
_NAMES = {"noise_multiplier": "noise_multiplier", "max_grad_norm": "clipping_norm", "target_epsilon": "epsilon"}
_SAME_HERE = frozenset("module optimizer data_loader criterion sample_size sample_rate alphas batch_size".split())
_NOISE = ("epsilon", "noise_multiplier")
_OPTIONS: dict[str, tuple[Any, ...]] = {
    "poisson_sampling": (True, False),  # it always is
    "clipping": ("flat",),
    "loss_reduction": ("mean",),
    "batch_first": (True,),
    "grad_sample_mode": ("hooks", "functorch", "ew", "ghost", "no_op"),
    "noise_generator": (None,),
    "secure_mode": (True, False),
    "secure_rng": (True, False),
}


@dataclass
class Private:
    """What a call of make_private says.

    Args:
      settings: of `researcher.Training`.
      delta, epochs: as written, where they are.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    delta: ast.expr | None = None
    epochs: ast.expr | None = None


def private_settings(call: ast.Call, values: Values) -> Private:
    """Noise and clipping. Options that are the same here are passed over, others raise."""
    said = Private()
    for name, value in arguments(call, ("module", "optimizer", "data_loader")).items():
        if name in _NAMES:
            said.settings[_NAMES[name]] = values.plain(value)
        elif name == "target_delta":
            said.delta = value
        elif name == "epochs":
            said.epochs = value
        elif name not in _SAME_HERE:
            allowed = _OPTIONS.get(name)
            if allowed is None or values.plain(value) not in allowed:
                raise NotPlain(f"{name}={short(value)} has no counterpart here")
    said.settings = {name: value for name, value in said.settings.items() if value is not None or name not in _NOISE}
    if "clipping_norm" not in said.settings:
        raise NotPlain("it says no max_grad_norm")
    return said


def settings_of_loss(call: ast.Call, values: Values) -> dict[str, Any]:
    """A loss that is made, or a function of torch that is called."""
    name = called(call)
    if name in FUNCTIONAL and not name.endswith("Loss"):
        return loss_settings(
            name, {word.arg: values.plain(word.value) for word in call.keywords if word.arg is not None}
        )
    return loss_settings(name, plain_arguments(call, ("weight",), values))


def settings_of_optimizer(call: ast.Call, values: Values) -> dict[str, Any]:
    """An optimizer over all of a model, with its learning rate."""
    given = arguments(call, ("params", "lr", "momentum"))
    parameters = given.pop("params", None)
    if parameters is not None and not (isinstance(parameters, ast.Call) and called(parameters) == "parameters"):
        raise NotPlain("it trains a part of the model: here all of it is trained")
    settings = optimizer_settings(called(call), {name: values.plain(value) for name, value in given.items()})
    return {"learning_rate": _DEFAULT_RATE, **settings}


def settings_of_loader(call: ast.Call, values: Values) -> dict[str, Any]:
    """A loader's batch size, 1 where it says none."""
    given = arguments(call, ("dataset", "batch_size"))
    if "batch_sampler" in given:
        raise NotPlain("a batch_sampler does not say a batch's size")
    return {"batch_size": whole(given.get("batch_size", ast.Constant(1)), values)}


def whole(node: ast.expr, values: Values) -> int:
    """A whole number of at least 1."""
    value = values.plain(node)
    if type(value) is not int or value < 1:
        raise NotPlain(f"`{short(node)}` is not a whole number of at least 1")
    return value


def optimizer_meant(private: ast.Call | None) -> str:
    """The optimizer that make_private is given, as it is written; "" for none."""
    given = arguments(private, ("module", "optimizer")).get("optimizer") if private is not None else None
    return short(given) if given is not None else ""
