"""What a team's report can be, and what it came to: plain data, and the same in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from policies.errors import InvalidRequest
from policies.numbers import counted, written
from policies.privacy.device_reports import DeviceQuestion
from researcher.devices.estimates import Figure


@dataclass(frozen=True)
class Prospect:
    """What a report of so many devices can be, from its declaration alone: nothing was asked.

    Args:
      devices: that would answer.
      epsilon: that each of them pays.
      own: by column, how far the mean is from the truth at most, in 95 of 100 reports, with every device's own noise.
      shared: the same with shared noise; None for fewer than two.
      epsilon_alone: with shared noise, if more than `colluding` others of a device's sum work together with the
        researcher; `epsilon` holds while no more do.
      in_circles: whether devices share noise in circles of up to 100, or in one sum of up to 20,000.
    """

    devices: int
    epsilon: float
    own: Mapping[str, float]
    shared: Mapping[str, float] | None
    epsilon_alone: float
    colluding: int
    in_circles: bool = True

    def __str__(self) -> str:
        each = ", ".join(f"{name} ± {short(value)}" for name, value in self.own.items())
        lines = [f"{counted(self.devices, 'device')} at ε = {written(self.epsilon)}, means in 95 of 100 reports:"]
        lines.append(f"  each device's own noise, nobody trusted: {each}")
        if self.shared:
            each = ", ".join(f"{name} ± {short(value)}" for name, value in self.shared.items())
            where = "circles" if self.in_circles else "one sum"
            of_whom = "others of a circle" if self.in_circles else "others"
            lines.append(
                f"  shared noise in {where}, up to {self.colluding:,} {of_whom} working together: {each}"
                f" (ε = {short(self.epsilon_alone)} if more do)"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Outcome:
    """What a team learned: figures by column, who is in them, and who is not and why.

    Args:
      question: as declared.
      figures: one for each column.
      devices: names of those that answered.
      missing: why each other did not.
      shares: whole noises in the sums.
      circles: sums that were opened, 0 with every device's own noise.
    """

    question: DeviceQuestion
    figures: tuple[Figure, ...]
    devices: tuple[str, ...]
    missing: Mapping[str, str]
    shares: float
    circles: int
    prospect: Prospect

    def __getitem__(self, column: str) -> Figure:
        """The figure of a column. Raises `InvalidRequest` where it was not asked about."""
        for figure in self.figures:
            if figure.column == column:
                return figure
        raise InvalidRequest(f"{column!r:.60} was not asked about. It was {', '.join(f.column for f in self.figures)}.")

    def __str__(self) -> str:
        lines = [f"{self.question.name}: {len(self.devices):,} of {len(self.devices) + len(self.missing):,} devices"]
        for figure in self.figures:
            mean = _interval(figure.mean, figure.mean_low, figure.mean_high)
            variance = _interval(figure.variance, figure.variance_low, figure.variance_high)
            lines.append(f"  {figure.column}: mean {mean}, variance {variance}")
        return "\n".join(lines)


def _interval(value: float, low: float, high: float) -> str:
    return f"{short(value)} [{short(low)}, {short(high)}]"


def short(value: float) -> str:
    """A number to three digits, or whole where it is larger.

    >>> short(370.26), short(4.9912), short(0.0850)
    ('370', '4.99', '0.085')
    """
    if not math.isfinite(value):
        return "infinite"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
