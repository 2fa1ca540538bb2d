"""What a schema's target is, and its values as a model's losses take them: public arithmetic on one record's cells.

A target is a column's name: a boolean or a category, whose labels are classes, or a real or an integer, which is a
number or, for a Poisson loss, a count. It is a tuple of names of booleans, which are labels that may hold together. Or
it is a `TimeToEvent`, which stands in a table of its own in a schema.toml:

    [target]
    time = "days"       # real or integer, minimum 0 or more
    event = "died"      # boolean; no: nothing had happened by that time (censored)
    horizon = 730       # up to where time counts, at most the time's maximum

No column of a target may be filled where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.errors import DataRefused, UnsupportedMechanism
from policies.privacy.outcomes import MOST_LABELS, Outcome
from policies.schema.columns import Column, FloatArray, check_name, is_number

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TimeToEvent:
    """A time until an event, or until it was known last that there was none.

    Args:
      time: a real or integer column whose minimum is 0 or more.
      event: a boolean column: whether the event came at that time; else the patient was censored then.
      horizon: up to where time counts, in the time column's units; what comes later is known to be later.
    """

    time: str
    event: str
    horizon: float

    def __post_init__(self) -> None:
        check_name("time of a target", self.time)
        check_name("event of a target", self.event)
        if not is_number(self.horizon) or self.horizon <= 0:
            raise DataRefused(f"horizon={self.horizon!r} is not a time above 0. Write the last day, as horizon = 730.")

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"time": self.time, "event": self.event, "horizon": float(self.horizon)}


Target = str | tuple[str, ...] | TimeToEvent | None


def target_from(data: Any) -> Target:
    """The target in plain data, as `plain` writes it. Raises `DataRefused`."""
    if data is None or isinstance(data, str | TimeToEvent):
        return data
    if isinstance(data, list | tuple) and all(isinstance(name, str) for name in data):
        return tuple(data)
    if isinstance(data, dict) and set(data) == {"time", "event", "horizon"}:
        return TimeToEvent(**data)
    raise DataRefused(
        f"target={str(data)[:80]!r} is not a target. Write a column's name, a list of boolean columns, or a table"
        ' [target] with time = "...", event = "..." and horizon = ....'
    )


def plain(target: Target) -> Any:
    """Plain data for JSON; a name stays a name."""
    if isinstance(target, TimeToEvent):
        return target.as_dict()
    return list(target) if isinstance(target, tuple) else target


def columns_of(target: Target) -> tuple[str, ...]:
    """The columns of a target, in order."""
    if isinstance(target, TimeToEvent):
        return (target.time, target.event)
    return (target,) if isinstance(target, str) else (target or ())


def check_target(target: Target, column: Callable[[str], Column]) -> None:
    """Raise `DataRefused` unless a target's columns, found by `column`, are of its kinds."""
    for name in columns_of(target):
        if column(name).missing != "refuse":
            raise DataRefused(f"target={name!r} cannot be filled where missing. Write missing = 'refuse'.")
    if isinstance(target, TimeToEvent):
        _check_time(target, column(target.time), column(target.event))
    elif isinstance(target, tuple):
        if not 2 <= len(set(target)) == len(target) <= MOST_LABELS:
            raise DataRefused(f"target={list(target)} should name 2 to {MOST_LABELS} different columns.")
        for name in target:
            if column(name).kind != "boolean":
                raise DataRefused(f"target={name!r} is {column(name).kind}. Each of several labels is a boolean.")
    elif target is not None and column(target).kind in ("date", "datetime"):
        raise DataRefused(
            f"target={target!r} is {column(target).kind}. A target is a boolean, a category, a number, several"
            " booleans, or a time with an event. Write the days since a beginning as an integer column."
        )


def _check_time(target: TimeToEvent, time: Column, event: Column) -> None:
    if time.kind not in ("real", "integer") or time.low < 0:
        raise DataRefused(
            f"target time {target.time!r} is {time.kind} from {time.low:g}. A time is real or integer with minimum 0 or"
            " more."
        )
    if event.kind != "boolean":
        raise DataRefused(f"target event {target.event!r} is {event.kind}. An event is a boolean: whether it came.")
    if not time.low < target.horizon <= time.high:
        raise DataRefused(
            f"horizon={target.horizon:g} is outside ({time.low:g}, {time.high:g}], the bounds of {target.time!r}."
        )


def check_outcome(target: Target, outcome: Outcome, loss: str, column: Callable[[str], Column]) -> None:
    """Raise `UnsupportedMechanism` unless a loss can be had of a target, and say which target or loss would do."""
    fits = {
        Outcome.CLASS: isinstance(target, str) and bool(column(target).labels),
        Outcome.NUMBER: isinstance(target, str) and not column(target).labels,
        Outcome.COUNT: isinstance(target, str) and column(target).kind == "integer" and column(target).low >= 0,
        Outcome.TIME: isinstance(target, TimeToEvent),
        Outcome.LABELS: isinstance(target, tuple),
    }
    if not fits[outcome]:
        raise UnsupportedMechanism(f"{loss} predicts {_WANTED[outcome]}, and the target is {_said(target, column)}.")


_WANTED = {
    Outcome.CLASS: "one of several classes",
    Outcome.NUMBER: "a real or integer column",
    Outcome.COUNT: "an integer column whose minimum is 0 or more",
    Outcome.TIME: "a time with an event, as target=('days', 'died'), horizon=730",
    Outcome.LABELS: "several booleans, as target=('stroke', 'bleeding')",
}


def _said(target: Target, column: Callable[[str], Column]) -> str:
    if isinstance(target, TimeToEvent):
        return "a time with an event: use loss='discrete_hazards'"
    if isinstance(target, tuple):
        return "several booleans: use loss='multilabel_binary_cross_entropy_with_logits'"
    if target is None:
        return "none: name one, as target='hba1c'"
    kind, labels = column(target).kind, column(target).labels
    if labels:
        loss = "'binary_cross_entropy_with_logits'" if len(labels) == 2 else "'cross_entropy'"
        return f"{target!r}, {kind}: use loss={loss}"
    return f"{target!r}, {kind} from {column(target).low:g}: use loss='mean_squared_error' or 'huber'"


def scaled(column: Column, values: FloatArray | float) -> FloatArray:
    """Natural values as a number's model predicts them: [-1, 1] between the declared bounds, no further clipping."""
    return np.asarray((np.asarray(values, np.float64) - column.low) / (column.high - column.low) * 2 - 1, np.float64)


def natural(column: Column, values: npt.ArrayLike) -> FloatArray:
    """What a number's model predicts, in the column's own units: the way back from `scaled`."""
    return np.asarray((np.asarray(values, np.float64) + 1) / 2 * (column.high - column.low) + column.low, np.float64)


def interval_ends(target: TimeToEvent, time: Column, intervals: int) -> Float32Array:
    """Ends of as many equal intervals from 0 to the horizon, scaled as the time column's inputs are: float32."""
    ends = target.horizon * np.arange(1, intervals + 1) / intervals
    return np.asarray(scaled(time, ends), dtype=np.float32)


def values_of(outcome: Outcome, columns: list[tuple[Column, FloatArray]]) -> Float32Array:
    """A target's values, float32 [N, columns], from its columns' cells: finite, and within public bounds.

    Numbers and times are scaled to [-1, 1]; counts, events and labels are whole numbers as they are.
    """
    parts = []
    for number, (column, raw) in enumerate(columns):
        whole = outcome in (Outcome.COUNT, Outcome.LABELS) or (outcome is Outcome.TIME and number == 1)
        parts.append(column.natural(raw)[:, None] if whole else column.scaled(raw)[:, :1])
    return np.asarray(np.concatenate(parts, axis=1), dtype=np.float32)


def said(target: Target, column: Callable[[str], Column]) -> str:
    """A target in words, as `influenza (no, yes)`, `hba1c (real, 4 to 14 %)` or `died by 730 days`."""
    if isinstance(target, TimeToEvent):
        return (
            f"{target.event} by {target.horizon:g} {column(target.time).unit}".rstrip() + f" ({target.time}, censored)"
        )
    if isinstance(target, tuple):
        return f"{', '.join(target)} (no or yes each)"
    if target is None:
        return "none"
    found = column(target)
    if found.labels:
        return f"{target} ({', '.join(found.labels)})"
    return f"{target} ({found.kind}, {found.low:g} to {found.high:g}{' ' + found.unit if found.unit else ''})"
