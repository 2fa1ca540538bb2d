"""What other libraries call the settings of a training, and what each is here.

Opacus, TensorFlow Privacy, SecureML, Keras and Flower are meant. A name that means the same is understood; one that
means something else, or that nothing here can honour, is refused by name with the reason. Losses and optimizers are
read from a name, a class or an object of torch by what it says of itself: torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy.outcomes import LOSSES

SAME = {
    "max_grad_norm": "clipping_norm",
    "l2_norm_clip": "clipping_norm",
    "max_norm": "clipping_norm",
    "target_epsilon": "epsilon",
    "target_delta": "delta",
    "lr": "learning_rate",
    "sample_rate": "sampling_rate",
    "criterion": "loss",
    "num_rounds": "rounds",
    "target_column": "target",
    "num_epochs": "epochs",
}
"""By the other library's name, ours of the same meaning."""

BY_EPOCHS = ("epochs", "batch_size")
"""Understood together with the published number of patients: they are a sampling rate and a number of steps."""

WHY_BY_EPOCHS = (
    "A request says sampling_rate and steps, since every hospital has another number of patients."
    " sampling_rate is batch_size / patients, and steps is epochs / sampling_rate / rounds."
)

_HOLD_OUT = "The hold-out is the dataset's own, by its schema. Give the study an Evaluation, which is charged."
_NO_LOSS = "Nothing of a loss leaves while a hospital trains. Evaluations between rounds are charged."
REASONS = {
    "poisson_sampling": "Patients are always Poisson-sampled: that is what the noise is computed for.",
    "shuffle": "Patients are Poisson-sampled at every step, so there is no order to shuffle.",
    "num_microbatches": "Every record's gradient is clipped by itself; microbatches would clip sums of several.",
    "microbatches": "Every record's gradient is clipped by itself; microbatches would clip sums of several.",
    "accountant": "The ledger has one accountant for all requests, so that they add up.",
    "secure_mode": "Noise always comes from a secure generator.",
    "secure_rng": "Noise always comes from a secure generator.",
    "noise_generator": "Noise always comes from a secure generator; one that you know is no protection.",
    "validation_split": _HOLD_OUT,
    "validation_data": _HOLD_OUT,
    "metrics": "What is read of private data is charged. Give the study evaluation=researcher.Evaluation(epsilon=...).",
    "early_stopping": _NO_LOSS,
    "early_stopping_patience": _NO_LOSS,
    "callbacks": "No code of yours runs beside private rows.",
    "verbose": "Nothing of a loss leaves while a hospital trains. Study(progress=True) shows rounds and their cost.",
    "device": "The datasite chooses where it computes.",
    "framework": "Hospitals train PyTorch models.",
    "alphas": "The ledger's orders are the same for all requests, so that they add up.",
    "grad_sample_mode": "The datasite has its own engine for gradients of single records.",
    "loss_reduction": "Gradients are summed and divided by the expected batch, which is the mean.",
    "num_workers": "The datasite reads its rows itself.",
    "drop_last": "A batch is a Poisson sample; there is no last one.",
    "scheduler": "Say the schedule as a setting of the training; an object of yours does not travel.",
}
"""By a name that nothing here can honour, why."""

_TORCH_LOSSES = {
    "crossentropyloss": "cross_entropy",
    "nllloss": "cross_entropy",
    "bceloss": "binary_cross_entropy",
    "bcewithlogitsloss": "binary_cross_entropy_with_logits",
    "mseloss": "mean_squared_error",
    "huberloss": "huber",
    "smoothl1loss": "huber",
    "poissonnllloss": "poisson",
}
_SPELLINGS = {
    "cross_entropy": "crossentropyloss",
    "binary_cross_entropy": "bceloss",
    "binary_cross_entropy_with_logits": "bcewithlogitsloss",
    "nll_loss": "nllloss",
    "mse_loss": "mseloss",
    "mse": "mseloss",
    "huber_loss": "huberloss",
    "smooth_l1_loss": "smoothl1loss",
    "poisson_nll_loss": "poissonnllloss",
    "bce": "bceloss",
    "binary_crossentropy": "bceloss",
    "categorical_crossentropy": "crossentropyloss",
    "sparse_categorical_crossentropy": "crossentropyloss",
}
FUNCTIONAL = frozenset(
    "cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss huber_loss smooth_l1_loss"
    " poisson_nll_loss".split()
)
"""Losses of `torch.nn.functional`."""

# Of a loss, what may be given beside it: the value that changes nothing.
_NEUTRAL: dict[str, Any] = {
    "reduction": "mean",
    "size_average": None,
    "reduce": None,
    "ignore_index": -100,
    "label_smoothing": 0.0,
    "log_input": True,
    "full": False,
    "eps": 1e-8,
    "beta": 1.0,
}
_OPTIMIZERS = {"sgd": "sgd", "adam": "adam", "dpsgd": "sgd", "dpadam": "adam"}
_OPTIMIZER_NEUTRAL: dict[str, Any] = {
    "dampening": 0,
    "nesterov": False,
    "maximize": False,
    "amsgrad": False,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
    "decoupled_weight_decay": False,
}


def understood(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by our names and as our values. Raises `UnsupportedMechanism`, which names what is refused."""
    ours: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in settings.items():
        if name in REASONS:
            raise UnsupportedMechanism(f"{name}={_short(value)} is not taken. {REASONS[name]}")
        for known, setting in _settings(SAME.get(name, name), value).items():
            if known in given:
                raise UnsupportedMechanism(f"{given[known]} and {name} both say {known}. Give one of them.")
            ours[known], given[known] = setting, name
    return ours


def _settings(name: str, value: Any) -> dict[str, Any]:
    if name == "loss" and not (isinstance(value, str) and value in LOSSES):
        kind, options = _described(value)
        return loss_settings(kind, options) if kind else {name: value}
    if name == "optimizer":
        kind, options = _described(value)
        return optimizer_settings(kind, options) if kind else {name: value}
    return {name: value}


def loss_settings(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a loss of torch stands for, by its class's or function's name and the options given to it.

    An unknown name stays as it is, for the declaration to refuse. Raises `UnsupportedMechanism` for an option.
    """
    loss = _TORCH_LOSSES.get(_SPELLINGS.get(kind.lower(), kind.lower()))
    if loss is None:
        return {"loss": kind}
    settings: dict[str, Any] = {"loss": loss}
    rest = {name: value for name, value in options.items() if value is not None}
    weight = rest.pop("weight", None)
    if weight is not None and loss == "cross_entropy":
        settings["class_weights"] = _numbers("weight", weight)
    elif weight is not None:
        raise UnsupportedMechanism(f"{kind}(weight=...) weighs records of a batch. Leave it out, or say class_weights.")
    positive = rest.pop("pos_weight", None)
    if positive is not None:
        settings["class_weights"] = (1.0, *_numbers("pos_weight", positive))
    if loss == "huber":
        settings["huber_delta"] = _numbers("delta", rest.pop("delta", 1.0))[0]
    _check_neutral(kind, rest, _NEUTRAL)
    return settings


def optimizer_settings(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an optimizer of torch stands for. Raises `UnsupportedMechanism` for another or an option."""
    name = _OPTIMIZERS.get(kind.lower())
    if name is None:
        weights = " AdamW's weight decay is not Adam's." if kind.lower() == "adamw" else ""
        raise UnsupportedMechanism(f"optimizer={kind!r} is not known. Use one of sgd, adam.{weights}")
    rest = dict(options)
    settings: dict[str, Any] = {"optimizer": name}
    for theirs, ours in {"lr": "learning_rate", "momentum": "momentum", "weight_decay": "weight_decay"}.items():
        value = rest.pop(theirs, None)
        if value:
            settings[ours] = value
    _check_neutral(kind, rest, _OPTIMIZER_NEUTRAL)
    return settings


def finding(name: str, text: str) -> tuple[str, str] | None:
    """Why a request may not say `name`, and what to write instead; None where nothing particular is known.

    Args:
      text: the value as it is written.
    """
    if name in SAME and name != "num_epochs":
        return f"A request calls it {SAME[name]}.", f"Write {SAME[name]}={text}."
    if name in (*BY_EPOCHS, "num_epochs"):
        return WHY_BY_EPOCHS, "Write those two numbers; researcher.Training computes them for you."
    if name in REASONS:
        return REASONS[name], "Leave it out."
    return None


def plain_name(setting: str, name: str) -> str:
    """Our name for what torch calls `name`, where `setting` is the loss or the optimizer; "" where there is none."""
    if setting == "loss":
        return _TORCH_LOSSES.get(_SPELLINGS.get(name.lower(), name.lower()), "")
    return _OPTIMIZERS.get(name.lower(), "") if setting == "optimizer" else ""


def _described(value: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of a loss or optimizer: of a text, a class, a function, or an object of torch."""
    if isinstance(value, str):
        return value, {}
    kind = value if isinstance(value, type) else type(value)
    if getattr(value, "__module__", None) in ("torch.nn.functional", "torch._C._nn") and hasattr(value, "__name__"):
        return str(value.__name__), {}
    if not str(kind.__module__).startswith(("torch.nn.modules.loss", "torch.optim")):
        return "", {}
    if isinstance(value, type):
        return kind.__name__, {}
    groups = getattr(value, "param_groups", None)
    if groups is not None:  # an optimizer: the same for all parameters, or it cannot be said in one setting
        options = [{name: option for name, option in group.items() if name != "params"} for group in groups]
        if any(other != options[0] for other in options[1:]):
            raise UnsupportedMechanism(
                f"optimizer={kind.__name__} has groups of parameters with settings of their own. Give all the same."
            )
        return kind.__name__, options[0]
    names = (*_NEUTRAL, "weight", "pos_weight", "delta")
    return kind.__name__, {name: getattr(value, name) for name in names if hasattr(value, name)}


def _check_neutral(kind: str, options: Mapping[str, Any], neutral: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in neutral or (value != neutral[name] and value is not None):
            raise UnsupportedMechanism(
                f"{kind}({name}={_short(value)}) is not taken: nothing at a hospital does that. Leave {name} out."
            )


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        values = value.tolist() if hasattr(value, "tolist") else value
        values = [values] if isinstance(values, int | float) else values
        return tuple(round(float(number), 6) for number in values)
    except (TypeError, ValueError, OverflowError):
        raise UnsupportedMechanism(f"{name}={_short(value)} is not a list of numbers.") from None


def _short(value: Any) -> str:
    return repr(value)[:60]
