"""Survival over time, declared: one histogram of time and event, from which Kaplan and Meier's curve is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.errors import UnsupportedMechanism
from policies.privacy.checks import Patients, check_column, check_range
from policies.privacy.conditions import parse
from policies.privacy.secure_aggregation import SecureAggregation

LEAST_EPSILON = 1e-6  # far above what the exact sampler of noise can make


@dataclass(frozen=True, kw_only=True)
class KaplanMeier:
    """Counts of patients by group, interval of time and whether the event was seen: pure ε per release.

    One record is drawn uniformly of each patient's that have time, event and group, and falls into exactly one cell:
    event in an interval, lost from sight in an interval, or followed to the end of the grid without event. So one
    patient more or less moves one cell by 1, L1 sensitivity 1, and each cell gets exact discrete Laplace noise of ε.
    Curves, bands, medians and log-rank tests are made of the release and cost nothing more.

    Args:
      time: a real or integer column, from when a patient is followed to the event or to when the patient was last seen.
      event: a boolean column, or a category of two labels of which the second is the event: whether it was seen.
      by: a boolean or category column of groups, or None.
      epsilon: of each release, in [1e-6, 100].
      bins: intervals of time, equal in width, 2 to 1000; whole numbers that are no more than this get one each.
      until: where the grid of time ends, in the column's unit; None for the column's largest value.
      rounds: how often it may be asked; each costs `epsilon` again.
      where: a condition as `age >= 65` (`conditions`), for records that count; all of them where it is empty.
      secure_aggregation: the hospitals whose sum alone can be read, and how many it needs; None to release by itself.
    """

    kind: ClassVar[str] = "kaplan_meier"
    reads: ClassVar[Patients] = Patients.ALL
    time: str
    event: str
    epsilon: float
    by: str | None = None
    bins: int = 24
    until: float | None = None
    rounds: int = 1
    where: str = ""
    secure_aggregation: SecureAggregation | None = None

    def __post_init__(self) -> None:
        for name in ("time", "event"):
            check_column(name, getattr(self, name))
        check_column("by", self.by, none=True)
        if len({self.time, self.event, self.by}) < 3:
            raise UnsupportedMechanism(f"time={self.time!r}, event={self.event!r} and by={self.by!r} should differ.")
        check_range("epsilon", self.epsilon, LEAST_EPSILON, 100)
        check_range("bins", self.bins, 2, 1000, whole=True)
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        if self.where != "":
            parse(self.where)
        if self.until is not None:
            check_range("until", self.until, 0, 1e15, open_low=True)
