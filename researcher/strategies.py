"""Flower's strategies by name, with the settings that fit a study of hospitals."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.serverapp import strategy as flower

from policies.errors import InvalidRequest
from policies.numbers import counted
from policies.privacy.mechanisms import DPSGD, check_range
from researcher.flower_turns import flower_turn

STRATEGIES = {
    "FedAvg": "the mean, weighted by published numbers of patients",
    "FedProx": "the same; hospitals pull towards the joint model, by the `proximal_mu` of the approved training",
    "FedAdam": "Adam on the mean change",
    "FedAdagrad": "Adagrad on the mean change",
    "FedYogi": "Yogi on the mean change",
    "FedAvgM": "the mean change with momentum",
    "FedMedian": "the median of each weight",
    "FedTrimmedAvg": "the mean of each weight without its extremes",
    "Krum": "the release that is nearest to the others",
    "MultiKrum": "the mean of those nearest to the others",
    "Bulyan": "MultiKrum, then a trimmed mean; 4·`num_malicious_nodes` + 3 hospitals or more",
    "DifferentialPrivacyServerSideFixedClipping": (
        "clips each hospital's change and adds noise to the mean: a hospital's part is hidden in the joint model too;"
        " needs the answers of all `num_sampled_clients`"
    ),
    "DifferentialPrivacyServerSideAdaptiveClipping": "the same, at a norm that it adapts",
}
"""Flower's strategies that can be had here by name, and what each does with the releases of a round."""

_CLIENT_HALF = (
    "the half of it that clips runs in a ClientApp, and hospitals run none: each clips every patient's gradient and"
    " adds its noise before anything leaves. Take FedAvg, or the server-side wrapper"
)
NOT_OFFERED = {
    "QFedAvg": "it needs every hospital's training loss, which is private",
    "FedXgbBagging": "it aggregates trees, not tensors",
    "FedXgbCyclic": "it aggregates trees, not tensors",
    "DifferentialPrivacyClientSideFixedClipping": _CLIENT_HALF,
    "DifferentialPrivacyClientSideAdaptiveClipping": _CLIENT_HALF,
}
"""Flower's that cannot work here, and why."""

NAMES = tuple(STRATEGIES)
WRAPPERS = frozenset(name for name in NAMES if name.startswith("DifferentialPrivacy"))
MOST_LAYERS = 5  # of wrappers around a strategy
WRAPPED = "strategy"  # the setting of a wrapper by name that says what it wraps
_UNREAD = {
    "eta_l": "The hospitals' learning rate is that of the approved training: researcher.Training(learning_rate=...)",
    "weighted_by_key": "Hospitals tell num-examples alone, their published number of patients",
}

COMPARING = (flower.FedMedian, flower.FedTrimmedAvg, flower.Krum, flower.MultiKrum, flower.Bulyan)


def make_strategy(
    chosen: str | flower.Strategy, training: DPSGD, *, hospitals: int, options: dict[str, Any]
) -> flower.Strategy:
    """A strategy by Flower's name for it, or the given instance.

    Args:
      chosen: one of `NAMES`, or an instance, of which a copy is used unchanged.
      training: FedProx takes its `proximal_mu` from here, since the hospitals apply what was approved.
      hospitals: in the study. Two of them are a quorum unless `options` say otherwise (one where there is only one).
      options: the strategy's own, as `fraction_train=0.5, min_train_nodes=2`; of a wrapper also `wrapped="FedAdam"`,
        FedAvg unless told, and that one's.

    Raises:
      InvalidRequest: the name or an option is unknown, a quorum is more than there are hospitals, a share is outside
        [0, 1], or a proximal term differs from the approved one.
    """
    if isinstance(chosen, flower.Strategy):
        if options:
            raise InvalidRequest(f"Give {', '.join(options)} to the strategy itself, since it is an instance.")
        strategy = _copied(chosen)
    else:
        strategy = _named(chosen, training, hospitals, options)
    _check_settings(strategy, hospitals)
    _check_proximal(strategy, training)
    _check_sums(strategy, training)
    return strategy


def _copied(chosen: flower.Strategy) -> flower.Strategy:
    try:
        return copy.deepcopy(chosen)
    except Exception as error:  # whatever the object holds
        raise InvalidRequest(
            f"{type(chosen).__name__} cannot be copied ({type(error).__name__}: {error}). Take out of it what cannot,"
            " as files, locks and connections."
        ) from None


def _named(chosen: object, training: DPSGD, hospitals: int, options: dict[str, Any]) -> flower.Strategy:
    if not isinstance(chosen, str) or chosen not in NAMES:
        why = f" ({NOT_OFFERED[chosen]})" if isinstance(chosen, str) and chosen in NOT_OFFERED else ""
        raise InvalidRequest(
            f"Strategy {chosen!r} is not offered{why}. Use one of {', '.join(NAMES)}, or an instance of one in"
            " flwr.serverapp.strategy."
        )
    if chosen in WRAPPERS:
        return _wrapper(chosen, training, hospitals, options)
    quorum = options.get("min_train_nodes", min(2, hospitals))
    settings: dict[str, Any] = {"fraction_evaluate": 0.0, "min_train_nodes": quorum, "min_available_nodes": quorum}
    if chosen == "FedProx":
        settings["proximal_mu"] = training.proximal_mu
    return _made(chosen, settings | options)


def _wrapper(chosen: str, training: DPSGD, hospitals: int, options: dict[str, Any]) -> flower.Strategy:
    """One of Flower's wrappers around another strategy by name; options of either. It needs everybody's answers."""
    inner = options.get("wrapped", "FedAvg")
    if inner in WRAPPERS:
        raise InvalidRequest(f"wrapped={inner!r} wraps others itself. Use one of {', '.join(set(NAMES) - WRAPPERS)}.")
    taken = set(inspect.signature(getattr(flower, chosen)).parameters) - {WRAPPED}
    own = {"num_sampled_clients": hospitals} | {name: value for name, value in options.items() if name in taken}
    others = {name: value for name, value in options.items() if name not in taken and name != "wrapped"}
    wrapped = _named(inner, training, hospitals, {"min_train_nodes": own["num_sampled_clients"], **others})
    return _made(chosen, {WRAPPED: wrapped, **own})


def _made(name: str, settings: dict[str, Any]) -> flower.Strategy:
    try:
        with flower_turn():
            strategy: flower.Strategy = getattr(flower, name)(**settings)
    except Exception as error:  # a strategy looks at its options in its own ways
        raise InvalidRequest(f"{name}: {error}. See flwr.serverapp.strategy.{name}.") from None
    return strategy


def check_offered(strategy: flower.Strategy, options: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` where a strategy, or what it wraps, is of a kind that cannot work, or has settings that
    nobody reads here. A study that was begun goes on with what it was begun with.
    """
    if options.get("fraction_evaluate"):
        raise InvalidRequest(
            f"fraction_evaluate={options['fraction_evaluate']!r}: hospitals score a model only as an approved"
            " evaluation. Leave it out, and call result.evaluate()."
        )
    for layer in _layers(strategy):
        for kind in type(layer).__mro__:
            if kind.__name__ in NOT_OFFERED and kind is getattr(flower, kind.__name__, None):
                raise InvalidRequest(f"{kind.__name__} cannot work here: {NOT_OFFERED[kind.__name__]}.")
        for name, instead in _UNREAD.items():
            usual = inspect.signature(type(layer).__init__).parameters.get(name)
            value = getattr(layer, name, None)
            if usual is not None and value != usual.default:
                raise InvalidRequest(
                    f"{type(layer).__name__} has {name}={value!r}, which no hospital reads. {instead}."
                )


def _layers(strategy: flower.Strategy) -> Iterator[flower.Strategy]:
    """A strategy and those that it wraps, from the outermost."""
    inner: Any = strategy
    for _ in range(MOST_LAYERS):
        yield inner
        inner = getattr(inner, "strategy", None)
        if not isinstance(inner, flower.Strategy):
            return


def _check_settings(strategy: flower.Strategy, hospitals: int) -> None:
    """Raise `InvalidRequest`, naming value and bound, where a quorum or a share of hospitals cannot be had."""
    for name, open_low in (("fraction_train", True), ("fraction_evaluate", False)):
        _check_range(name, setting_of(strategy, name, 1.0), 0, 1, open_low=open_low)
    for name in ("min_train_nodes", "min_available_nodes"):
        value = setting_of(strategy, name, 1)
        _check_range(name, value, 1, math.inf, whole=True)
        if value > hospitals:
            raise InvalidRequest(
                f"{name}={value} is more than the {counted(hospitals, 'hospital')} of this study. Use at most"
                f" {hospitals}."
            )


def _check_range(name: str, value: object, low: float, high: float, **kind: bool) -> None:
    try:
        check_range(name, value, low, high, **kind)
    except InvalidRequest as error:
        raise InvalidRequest(f"The strategy's {error}") from None


def setting_of(strategy: Any, name: str, otherwise: Any) -> Any:
    """One of a strategy's settings, also from inside one of Flower's wrappers."""
    inner = strategy
    while not hasattr(inner, name) and hasattr(inner, "strategy"):
        inner = inner.strategy
    return getattr(inner, name, otherwise)


def quorum_of(strategy: Any) -> int:
    """How many hospitals must answer for a round to be closed."""
    return max(1, int(setting_of(strategy, "min_train_nodes", 1)))


def describe(chosen: str | flower.Strategy, options: dict[str, Any]) -> dict[str, Any]:
    """A strategy as plain data, by which a resumed study knows that it is the same."""
    if isinstance(chosen, str):
        try:
            plain = json.loads(json.dumps(options))
        except (TypeError, ValueError):
            raise InvalidRequest(
                f"The options of {chosen!r} are kept in the study's directory and must be numbers, texts or lists of"
                " such. Give anything else to an instance of the strategy."
            ) from None
        return {"name": chosen, "options": plain, "instance": False}
    plain = {key: value for key, value in vars(chosen).items() if isinstance(value, (int, float, str, bool))}
    return {"name": type(chosen).__name__, "options": plain, "instance": True}


def _check_sums(strategy: flower.Strategy, training: DPSGD) -> None:
    """Raise `InvalidRequest` where a strategy compares hospitals with each other, and only their mean can be read."""
    if training.secure_aggregation is not None and isinstance(strategy, COMPARING):
        raise InvalidRequest(
            f"{type(strategy).__name__} compares hospitals' weights, and with secure_aggregation only their mean can be"
            " read. Use FedAvg, FedProx, FedAvgM, FedAdam, FedAdagrad or FedYogi."
        )


def _check_proximal(strategy: flower.Strategy, training: DPSGD) -> None:
    for layer in _layers(strategy):
        if isinstance(layer, flower.FedProx) and (
            layer.proximal_mu != training.proximal_mu or not training.proximal_mu
        ):
            raise InvalidRequest(
                f"FedProx with proximal_mu={layer.proximal_mu} does not match Training(proximal_mu="
                f"{training.proximal_mu}). Hospitals apply what they approved: declare the same, above 0, in the"
                " Training."
            )
