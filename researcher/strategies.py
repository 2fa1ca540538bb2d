"""Flower's strategies by name, with the settings that fit a study of hospitals."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.serverapp import strategy as flower

from policies.errors import InvalidRequest
from policies.privacy.mechanisms import DPSGD

NAMES = (
    "FedAvg",
    "FedProx",
    "FedAdam",
    "FedAdagrad",
    "FedYogi",
    "FedAvgM",
    "FedMedian",
    "FedTrimmedAvg",
    "Krum",
    "MultiKrum",
    "Bulyan",
)
# Flower has these too.
NOT_OFFERED = {
    "QFedAvg": "it needs every hospital's training loss, which is private",
    "FedXgbBagging": "it aggregates trees, not tensors",
    "FedXgbCyclic": "it aggregates trees, not tensors",
}


def make_strategy(
    chosen: str | flower.Strategy, training: DPSGD, *, hospitals: int, options: dict[str, Any]
) -> flower.Strategy:
    """A strategy by Flower's name for it, or the given instance.

    Args:
      chosen: one of `NAMES`, or an instance, which is used unchanged.
      training: FedProx takes its `proximal_mu` from here, since the hospitals apply what was approved.
      hospitals: in the study. Two of them are a quorum unless `options` say otherwise (one where there is only one).
      options: the strategy's own, as `fraction_train=0.5, min_train_nodes=2`.

    Raises:
      InvalidRequest: the name or an option is unknown, or a proximal term differs from the approved one.
    """
    if isinstance(chosen, flower.Strategy):
        if options:
            raise InvalidRequest(f"Give {', '.join(options)} to the strategy itself, since it is an instance.")
        _check_proximal(chosen, training)
        return chosen
    if chosen not in NAMES:
        why = f" ({NOT_OFFERED[chosen]})" if chosen in NOT_OFFERED else ""
        raise InvalidRequest(f"Strategy {chosen!r} is not offered{why}. Use one of {', '.join(NAMES)}, or an instance.")
    quorum = min(2, hospitals)
    settings: dict[str, Any] = {"fraction_evaluate": 0.0, "min_train_nodes": quorum, "min_available_nodes": quorum}
    if chosen == "FedProx":
        settings["proximal_mu"] = training.proximal_mu
    try:
        with quiet_flower():
            strategy: flower.Strategy = getattr(flower, chosen)(**(settings | options))
    except TypeError as error:
        raise InvalidRequest(f"{chosen}: {error}. See flwr.serverapp.strategy.{chosen}.") from None
    _check_proximal(strategy, training)
    return strategy


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Flower logs every round, and at construction what it will skip; our progress says what matters."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def describe(chosen: str | flower.Strategy, options: dict[str, Any]) -> dict[str, Any]:
    """A strategy as plain data, by which a resumed study knows that it is the same."""
    if isinstance(chosen, str):
        return {"name": chosen, "options": options, "instance": False}
    plain = {key: value for key, value in vars(chosen).items() if isinstance(value, (int, float, str, bool))}
    return {"name": type(chosen).__name__, "options": plain, "instance": True}


def _check_proximal(strategy: flower.Strategy, training: DPSGD) -> None:
    if not isinstance(strategy, flower.FedProx):
        return
    if strategy.proximal_mu != training.proximal_mu or not training.proximal_mu:
        raise InvalidRequest(
            f"FedProx with proximal_mu={strategy.proximal_mu} does not match Training(proximal_mu="
            f"{training.proximal_mu}). Hospitals apply what they approved: declare the same, above 0, in the Training."
        )
