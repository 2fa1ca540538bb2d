"""What declarations of mechanisms have in common: whose data they read, and bounds on their numbers."""

from __future__ import annotations

import math
from enum import StrEnum

from policies.errors import UnsupportedMechanism


class Patients(StrEnum):
    """Which patients of a population a mechanism reads: those who train, those who are held out, or all."""

    TRAINING = "training"
    HELD_OUT = "held_out"
    ALL = "all"


def check_range(
    name: str, value: object, low: float, high: float, *, whole: bool = False, open_low: bool = False
) -> None:
    """Raise `UnsupportedMechanism`, naming value and bounds, unless `value` is a number in [low, high]."""
    kind = (int,) if whole else (int, float)
    if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
        raise UnsupportedMechanism(f"{name}={value!r} is not a {'whole ' if whole else ''}number.")
    if value < low or value > high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise UnsupportedMechanism(f"{name}={value} is outside {bracket}{low}, {high}].")


def check_column(name: str, value: object, *, none: bool = False) -> None:
    """Raise `UnsupportedMechanism` unless `value` is text that can name a column (or None, where that is allowed)."""
    if (value is None and none) or (isinstance(value, str) and value):
        return
    raise UnsupportedMechanism(f"{name}={str(value)[:60]!r} is not a column's name. Write it as {name}='age'.")


def check_noise(epsilon: float | None, noise_multiplier: float | None) -> None:
    """Raise `UnsupportedMechanism` unless one of the two says how much Gaussian noise there is, within its range."""
    if (epsilon is None) == (noise_multiplier is None):
        raise UnsupportedMechanism("Give either epsilon or noise_multiplier, and not both.")
    if epsilon is not None:
        check_range("epsilon", epsilon, 0, 100, open_low=True)
    if noise_multiplier is not None:
        check_range("noise_multiplier", noise_multiplier, 0, 1000, open_low=True)
