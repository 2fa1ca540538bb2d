"""A question to people's own devices, declared: which numbers of a person, between which bounds, at which ε.

Each device holds one number of its person in each column, as today's heart rate. A column's number x becomes

    y = round(K (x - c) / h),  s = round(y² / K),    c and h the middle and half of its bounds, x held to them,

two whole numbers, y in [-K, K] and s in [0, K], from whose sums over devices a mean and a variance follow. Both leave
with discrete Laplace noise P[Z = z] ∝ e^(-w|z|), w = -ln(1 - 2^-m) (`shared_noise`).

*What one person moves.* Neighbours differ in one person's numbers; who takes part is known. For any y and y',
|s - s'| ≤ |y² - y'²| / K + 1, and with u = |y - y'|, |y + y'| ≤ 2K - u,

    |y - y'| + |s - s'| ≤ u + u (2K - u) / K + 1 ≤ 9K/4 + 1,

at u = 3K/2. So a column's answer is pure ε with ε ≤ w (9K/4 + 1), and K is the largest whole number with which that
holds at the column's share of ε: the mean's noise is 2.25 h/ε wide instead of the 4 h/ε of two answers at ε/2 each,
since who moves the mean most, from one bound to the other, does not move the square. m is the least with K ≥ 2048.

With `shared` or `team`, devices add parts of that noise, and a sum is opened over `threshold` of them or more alone: of
a circle of up to 100 under masks (`secure_aggregation`), of a team by a committee (`team_sums`). Of those,
`colluding` = k may work together with a researcher who drops whom they like, and threshold - k of the sum's parts are
still secret. So threshold - k parts make the whole, and ε holds while no more than k work together. If more do, one
device's number may be read under its own part alone: `epsilon_if(1)`.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from policies.canonical import canonical
from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.privacy.checks import check_column, check_range
from policies.privacy.secure_aggregation import SecureAggregation, secure_aggregation_from
from policies.privacy.shared_noise import laplace_loss, laplace_part, rate_above
from policies.privacy.team_sums import TeamSum, team_sum_from
from policies.text import visible

NUMBERS = 2  # that leave of each column: of a mean, and of a mean square
LEAST_STEPS = 2048  # K: a number is carried to 1/4096 of its range or finer
LEAST_EPSILON, MOST_EPSILON = 0.001, 20.0  # of a column: below, sums would leave 32-bit words
MOST_COLUMNS = 20
LONGEST_NAME = 200
UNITS = 10**6
"""In one ε, of a device's ledger: charges are whole numbers of them, rounded up."""
_KIND = "private-datasites device question 1"
_SPARE = 64  # widths of noise that none is ever beyond: e^-64


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of a person, and the public bounds that it is held to."""

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        check_column("column", self.name)
        if len(self.name) > LONGEST_NAME or visible(self.name) != self.name:
            raise UnsupportedMechanism(f"column={self.name[:60]!r} is no plain name of up to {LONGEST_NAME} letters.")
        check_range(f"low of {self.name}", self.low, -1e12, 1e12)
        check_range(f"high of {self.name}", self.high, -1e12, 1e12)
        if not self.high - self.low > 1e-9 * max(1.0, abs(self.low), abs(self.high)):
            raise UnsupportedMechanism(
                f"bounds={(self.low, self.high)} of {self.name} leave no room. Write the lowest value that occurs"
                " first, then the highest, as (40, 200)."
            )

    @property
    def middle(self) -> float:
        """Of the bounds."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """Half of the range."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True)
class DeviceQuestion:
    """What every device is asked.

    Args:
      name: says what is asked and when, as "heart rates, week 12": the same question again is the same answer again.
      columns: 1 to 20, which share ε equally.
      epsilon: of a device's whole answer, pure (δ = 0).
      shared: the circle that shares one noise, or None.
      team: the team that does, or None. Without either every device adds all of its own.
    """

    name: str
    columns: tuple[Column, ...]
    epsilon: float
    shared: SecureAggregation | None = None
    team: TeamSum | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name.strip()) <= LONGEST_NAME:
            raise UnsupportedMechanism(f"name={str(self.name)[:60]!r} does not name the question. Say what and when.")
        if visible(self.name) != self.name:
            raise UnsupportedMechanism("name holds characters that do not show themselves. Write it as plain text.")
        check_range("columns", len(self.columns), 1, MOST_COLUMNS, whole=True)
        if len({column.name for column in self.columns}) != len(self.columns):
            raise UnsupportedMechanism("columns name one column twice. Name each once.")
        count = len(self.columns)
        check_range("epsilon", self.epsilon, LEAST_EPSILON * count, MOST_EPSILON * count)
        if self.shared is not None and self.team is not None:
            raise UnsupportedMechanism("A question shares its noise in a circle or in a team. Give one of both.")

    @property
    def halvings(self) -> int:
        """m of the noise."""
        return _grid(self.epsilon, len(self.columns))[0]

    @property
    def steps(self) -> int:
        """K: whole numbers from the middle of a column's bounds to either end."""
        return _grid(self.epsilon, len(self.columns))[1]

    @property
    def largest(self) -> int:
        """Which no number of an honest answer is beyond, but with a chance of less than e^-60."""
        return self.steps + (_SPARE << self.halvings)

    @property
    def parts(self) -> int:
        """How many parts make the whole noise: of a roster, those of a sum that nobody else knows; or 1."""
        return self.roster.threshold - self.roster.colluding if self.roster else 1

    @property
    def roster(self) -> SecureAggregation | TeamSum | None:
        """Who shares one noise: a circle or a team, or nobody."""
        return self.shared or self.team

    @property
    def sharing(self) -> int:
        """How many devices share one noise, or 1."""
        return len(self.shared.hospitals) if self.shared else self.team.devices if self.team else 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the question, by which a device knows it again."""
        return hashlib.sha256(canonical(self.as_dict())).hexdigest()

    def epsilon_if(self, honest: int) -> float:
        """ε of a number under the parts of so many devices that work together with nobody, one's own among them.

        Without a roster it is the question's own, whoever works together.
        """
        if self.roster is None or honest >= self.parts:
            return float(self.epsilon)
        losses = (
            laplace_loss(self.halvings, honest=honest, parties=self.parts, distance=distance)
            for distance in (2 * self.steps, self.steps + 1)  # what y and s can move at most, each by itself
        )
        return math.fsum(losses) * len(self.columns)

    def exact(self, values: Mapping[str, float]) -> list[int]:
        """y and s of each column, without noise: private. `values` has a finite number for each."""
        numbers = []
        for column in self.columns:
            held = min(max(float(values[column.name]), column.low), column.high)
            y = max(-self.steps, min(self.steps, round((held - column.middle) / column.half * self.steps)))
            numbers += [y, (y * y + self.steps // 2) // self.steps]
        return numbers

    def answered(self, values: Mapping[str, float], source: random.Random) -> list[int]:
        """y and s of each column with this device's noise: all of it, or its part of the roster's."""
        return [number + laplace_part(self.halvings, self.parts, source) for number in self.exact(values)]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as devices are sent it."""
        data: dict[str, Any] = {
            "kind": _KIND,
            "name": self.name,
            "columns": [[column.name, column.low, column.high] for column in self.columns],
            "epsilon": self.epsilon,
        }
        if self.shared:
            data["shared"] = self.shared.as_dict()
        if self.team:
            data["team"] = self.team.as_dict()
        return data


@lru_cache(maxsize=256)
def _grid(epsilon: float, columns: int) -> tuple[int, int]:
    """m and K of a column's share of ε."""
    each, halvings, steps = Fraction(epsilon) / columns, 0, 0
    while steps < LEAST_STEPS:
        halvings += 1
        steps = math.floor((each / rate_above(halvings) - 1) * Fraction(4, 9))
    return halvings, steps


def question_from(data: object) -> DeviceQuestion:
    """The question that `as_dict` wrote. Raises `InvalidRequest` where it is none."""
    if not isinstance(data, Mapping) or data.get("kind") != _KIND or set(data) - {"shared", "team"} != {
        "kind", "name", "columns", "epsilon",
    }:  # fmt: skip
        raise InvalidRequest("This is no question to a device. Use the researcher package's own.")
    rows = data["columns"]
    if not isinstance(rows, Sequence) or not all(isinstance(row, list | tuple) and len(row) == 3 for row in rows):
        raise InvalidRequest("A column of a question to devices is written as ['NAME', LOW, HIGH].")
    return DeviceQuestion(
        name=data["name"],
        columns=tuple(Column(name=name, low=low, high=high) for name, low, high in rows),
        epsilon=data["epsilon"],
        shared=secure_aggregation_from(data.get("shared")),
        team=team_sum_from(data.get("team")),
    )


def roster_digest(roster: SecureAggregation | TeamSum) -> str:
    """By which a person accepts a roster and its threshold."""
    return hashlib.sha256(canonical(roster.as_dict())).hexdigest()


def units(epsilon: float) -> int:
    """What a device's ledger charges for an ε, in millionths, rounded up."""
    return math.ceil(Fraction(epsilon) * UNITS)
