"""One sum over thousands of devices, declared: the team, how many a sum needs, and the committee that opens it.

Each device splits its numbers among a committee of the team, drawn by chance (`policies.secure_sums.committee`).
What is promised holds while no more than `colluding` of the team's devices work together with whoever relays:

* *Shares.* A device's numbers take `needed` of the committee's `size` shares; fewer say nothing of them (Shamir 1979).
* *One sum.* An honest member gives the sum of its shares once, over devices that it is named. With a members that work
  together, sums over two different sets take 2 `needed` answers, and there are at most (size - a) + 2a of them: none
  are opened but one while a < 2 needed - size.
* *Its noise.* A sum is over `threshold` devices or more, of whom `colluding` know their own parts: the others'
  `threshold - colluding` parts are the whole noise.

Of a committee drawn by chance, a is hypergeometric. `committee_for` is the smallest with P[a ≥ 2 needed - size] of at
most 2^-80, counted in whole numbers. Who relays may try committees by naming another question, at 2^19 hashes each:
2^40 tries, some 2^59 hashes, leave a chance of 2^-40.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy.checks import check_range

FEWEST_DEVICES, MOST_DEVICES = 3, 20_000
SECURITY = 80
"""A committee is of too many that work together with a chance of at most 2^-SECURITY."""
LOST = 0.15
"""Of a committee may fall silent, and the sum still opens."""
MOST_COLLUDING = 1 / 3
_ROOT = re.compile(r"[0-9a-f]{64}")
_FIELDS = ("root", "devices", "threshold", "colluding")


@dataclass(frozen=True)
class Committee:
    """Of how many, and how many of them open a sum."""

    size: int
    needed: int


@dataclass(frozen=True, kw_only=True)
class TeamSum:
    """One sum over a team.

    Args:
      root: hex of the Merkle tree over the keys of its devices in their order (`policies.secure_sums.merkle`).
      devices: in the team, 3 to 20,000.
      threshold: devices that a sum needs, more than half of them; fewer can open nothing.
      colluding: devices that may work together with the researcher and still learn nothing of one other; up to a third.
    """

    root: str
    devices: int
    threshold: int
    colluding: int

    def __post_init__(self) -> None:
        if not isinstance(self.root, str) or not _ROOT.fullmatch(self.root):
            raise UnsupportedMechanism(f"root={str(self.root)[:20]!r} is not 64 digits of 0-9 and a-f.")
        check_range("devices", self.devices, FEWEST_DEVICES, MOST_DEVICES, whole=True)
        check_range("threshold", self.threshold, self.devices // 2 + 1, self.devices, whole=True)
        most = min(math.floor(MOST_COLLUDING * self.devices), self.threshold - 2)
        check_range("colluding", self.colluding, 0, most, whole=True)

    @property
    def committee(self) -> Committee:
        """Follows from the others, so that nobody chooses it."""
        return committee_for(self.devices, self.colluding)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as questions carry it."""
        return {name: getattr(self, name) for name in _FIELDS}


def team_sum_from(data: object) -> TeamSum | None:
    """The declaration that `as_dict` wrote, or None of None. Raises `UnsupportedMechanism`."""
    if data is None or isinstance(data, TeamSum):
        return data
    if not isinstance(data, Mapping) or set(data) != set(_FIELDS):
        raise UnsupportedMechanism(f"A team's sum is written as an object of {', '.join(_FIELDS)}.")
    return TeamSum(**data)


@lru_cache(maxsize=256)
def committee_for(devices: int, colluding: int) -> Committee:
    """The smallest committee of which fewer than 2 needed - size work together, but with a chance of 2^-80.

    >>> committee_for(10_000, 2_000)
    Committee(size=85, needed=73)
    """
    for size in range(3, devices + 1):
        needed = size - math.floor(LOST * size)
        if chance_of_more(devices, colluding, size, 2 * needed - size) <= 2.0**-SECURITY:
            return Committee(size, needed)
    raise UnsupportedMechanism(
        f"No committee of {devices} devices is safe while {colluding} of them work together. Let fewer do."
    )


def chance_of_more(devices: int, marked: int, drawn: int, least: int) -> float:
    """P that of `drawn` devices, of whom `marked` of `devices` are marked, `least` or more are marked; rounded up."""
    ways = sum(
        math.comb(marked, count) * math.comb(devices - marked, drawn - count)
        for count in range(max(0, least), min(marked, drawn) + 1)
    )
    if not ways:
        return 0.0
    all_ways = math.comb(devices, drawn)
    spare = max(0, all_ways.bit_length() - ways.bit_length()) + 60
    return min(1.0, math.nextafter(math.ldexp(float((ways << spare) // all_ways + 1), -spare), math.inf))
