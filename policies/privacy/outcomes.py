"""What a model predicts, by the loss that it trains with, and the public constants that go with each.

A loss is of one record alone: what it gives is clipped, so no other record may take part in it. That is why Cox's
partial likelihood is not here, whose term for a patient is a ratio over all who are still at risk.
"""

from __future__ import annotations

import math
from enum import StrEnum

from policies.errors import UnsupportedMechanism


class Outcome(StrEnum):
    """What a target is: one of several classes, a number, a count, a time with an event, or several labels."""

    CLASS = "class"
    NUMBER = "number"
    COUNT = "count"
    TIME = "time"
    LABELS = "labels"


OUTCOMES: dict[str, Outcome] = {
    "binary_cross_entropy": Outcome.CLASS,
    "binary_cross_entropy_with_logits": Outcome.CLASS,
    "cross_entropy": Outcome.CLASS,
    "mean_squared_error": Outcome.NUMBER,
    "huber": Outcome.NUMBER,
    "poisson": Outcome.COUNT,
    "discrete_hazards": Outcome.TIME,
    "multilabel_binary_cross_entropy_with_logits": Outcome.LABELS,
}
"""Of every loss what it is for."""

LOSSES = tuple(OUTCOMES)
WEIGHTED = (Outcome.CLASS, Outcome.LABELS)
MOST_LABELS = 64
MOST_INTERVALS = 200
LARGEST_WEIGHT = 1000.0

Target = str | tuple[str, ...] | None

_COX = ("cox", "coxph", "cox_ph", "cox_partial_likelihood", "partial_likelihood")


def outcome_of(loss: str) -> Outcome:
    """What a model of that loss predicts. Raises `UnsupportedMechanism` where the loss is not known."""
    check_loss(loss)
    return OUTCOMES[loss]


def check_loss(loss: object) -> None:
    """Raise `UnsupportedMechanism` unless `loss` is one of `LOSSES`."""
    if isinstance(loss, str) and loss.lower() in _COX:
        raise UnsupportedMechanism(
            f"loss={loss!r} cannot be had per record: Cox's partial likelihood divides each patient's risk by the sum"
            " over all who are still at risk, so one patient changes the terms of others and no clipping bounds that."
            " Use loss='discrete_hazards', one logit for each interval of time: its log-likelihood is a sum over"
            " patients, censoring included."
        )
    if not isinstance(loss, str) or loss not in OUTCOMES:
        raise UnsupportedMechanism(f"loss={loss!r} is not known. Use one of {', '.join(LOSSES)}.")


def check_target(loss: str, target: object, horizon: object) -> None:
    """Raise `UnsupportedMechanism` unless a named target is written as the loss wants it. Columns are checked later."""
    outcome = OUTCOMES[loss]
    if horizon is not None and (outcome is not Outcome.TIME or not _number(horizon) or not 0 < horizon <= 1e15):  # type: ignore[operator]
        raise UnsupportedMechanism(
            f"horizon={horizon!r} is not a time above 0 of loss='discrete_hazards'. Write the last day, as 730, or"
            " leave it out."
        )
    if target is None:
        return
    names = (target,) if isinstance(target, str) else target
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise UnsupportedMechanism(f"target={target!r} is neither a column's name nor a tuple of names.")
    if outcome is Outcome.TIME and (len(names) != 2 or isinstance(target, str) or horizon is None):
        raise UnsupportedMechanism(
            f"target={target!r} of loss={loss!r} names two columns and a horizon, as target=('days', 'died'),"
            " horizon=730."
        )
    if outcome is Outcome.LABELS and (isinstance(target, str) or not 2 <= len(set(names)) == len(names) <= MOST_LABELS):
        raise UnsupportedMechanism(
            f"target={target!r} of loss={loss!r} names 2 to {MOST_LABELS} different boolean columns, as"
            " target=('stroke', 'bleeding')."
        )
    if outcome not in (Outcome.TIME, Outcome.LABELS) and not isinstance(target, str):
        raise UnsupportedMechanism(f"target={target!r} of loss={loss!r} is one column. Name one, as target='hba1c'.")


def check_constants(loss: str, class_weights: object, huber_delta: object) -> None:
    """Raise `UnsupportedMechanism` unless the loss's public constants are of their kinds, and go with the loss."""
    if not isinstance(class_weights, tuple) or not all(_number(weight) for weight in class_weights):
        raise UnsupportedMechanism(f"class_weights={class_weights!r} is not a tuple of numbers, as (1.0, 5.0).")
    if class_weights and OUTCOMES[loss] not in WEIGHTED:
        raise UnsupportedMechanism(f"class_weights={class_weights} are of classes, which {loss} has none of.")
    for weight in class_weights:
        if not 0 < weight <= LARGEST_WEIGHT:
            raise UnsupportedMechanism(f"class_weights has {weight}, outside (0, {LARGEST_WEIGHT:g}].")
    if (huber_delta is None) == (loss == "huber"):
        raise UnsupportedMechanism(
            f"huber_delta={huber_delta!r} does not go with loss={loss!r}: huber, and no other loss, needs one, in the"
            " target's own units, as huber_delta=5.0."
        )
    if huber_delta is not None and (not _number(huber_delta) or not 0 < huber_delta <= 1e15):  # type: ignore[operator]
        raise UnsupportedMechanism(f"huber_delta={huber_delta!r} is not a number above 0, in the target's units.")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
