"""Secure aggregation, declared: which hospitals add up what they release, and how many of them a sum needs.

A release leaves under masks that cancel in the sum over at least `threshold` of the named hospitals and in nothing less
(Bonawitz et al. 2017, doi:10.1145/3133956.3133982, in the version for a coordinator that lies). The roster stands in
the request, so it is what owners approve: a hospital that nobody knows is the way around any such protocol (Boenisch et
al. 2023, arXiv:2112.02918).

* Mode `"masks"`: each hospital keeps its whole noise, so ε is what it is without, and nobody is trusted for it.
* Mode `"shared-noise"`: hospitals add parts of one noise, so that a sum is sharper at the same ε. That ε then holds
  while no more than `may_collude` of them work together with the researcher (`shared_sums`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy.checks import check_range
from policies.text import visible

MASKS, SHARED_NOISE = "masks", "shared-noise"
MODES = (MASKS, SHARED_NOISE)
MOST_HOSPITALS = 100
LONGEST_NAME = 200
WORD = 32  # bits of each masked number
_KEY = re.compile(r"[0-9a-f]{64}")
_FIELDS = ("name", "key", "patients")


def digits_of(key: str) -> str:
    """The first 16 digits of a key in groups of four."""
    return " ".join(key[begin : begin + 4] for begin in range(0, 16, 4))


@dataclass(frozen=True)
class Party:
    """One hospital of a roster.

    Args:
      name: as its datasite calls itself.
      key: hex of the Ed25519 key that signs its certificates; its round keys are signed by that one.
      patients: its published number of training patients, by which a mean weighs it.
    """

    name: str
    key: str
    patients: int

    @property
    def fingerprint(self) -> str:
        """The key as people compare it: its first 16 digits in groups of four."""
        return digits_of(self.key)


@dataclass(frozen=True, kw_only=True)
class SecureAggregation:
    """Release in sums alone.

    Args:
      threshold: hospitals that a sum needs, more than half of them; fewer can open nothing.
      hospitals: 2 to 100, each with a key of its own.
      mode: one of `MODES`; `"masks"` leaves every hospital its whole noise, `"shared-noise"` a part of one.
      reach: largest change of one number in a round that is carried, in (0, 2^20]; what goes further is held to it.
      scale: hex digest of what the numbers of an analysis without a model mean, which every hospital compares with its
        own columns; "" where they follow from the plan, as a model's do.
      may_collude: k, hospitals that shared noise assumes may work together with the researcher and know their own
        parts, from 0 to `colluding`; 0 under masks, which trust nobody for ε.
    """

    threshold: int
    hospitals: tuple[Party, ...]
    mode: str = MASKS
    reach: float = 16.0
    scale: str = ""
    may_collude: int = 0

    def __post_init__(self) -> None:
        count = len(self.hospitals)
        if not 2 <= count <= MOST_HOSPITALS:
            raise UnsupportedMechanism(
                f"secure_aggregation names {count} hospitals. A sum is over 2 to {MOST_HOSPITALS} of them."
            )
        for party in self.hospitals:
            _check_party(party)
        for kind in ("name", "key"):
            if len({getattr(party, kind) for party in self.hospitals}) != count:
                raise UnsupportedMechanism(f"secure_aggregation names a hospital's {kind} twice. Name each once.")
        if self.mode not in MODES:
            raise UnsupportedMechanism(f"secure_aggregation has mode={self.mode!r:.40}. Use {', '.join(MODES)}.")
        check_range("threshold", self.threshold, count // 2 + 1, count, whole=True)
        check_range("reach", self.reach, 0, 2.0**20, open_low=True)
        self._check_may_collude()
        if not isinstance(self.scale, str) or not (self.scale == "" or _KEY.fullmatch(self.scale)):
            raise UnsupportedMechanism(
                f"secure_aggregation has scale={str(self.scale)[:20]!r}. It is 64 digits of 0-9 and a-f, as"
                " cohort.statistics(..., secure_aggregation=True) writes it, or left out."
            )

    def _check_may_collude(self) -> None:
        check_range("may_collude", self.may_collude, 0, 2**31, whole=True)
        if self.may_collude and not self.shares_noise:
            raise UnsupportedMechanism(
                f"may_collude={self.may_collude} is for mode={SHARED_NOISE!r}: under {self.mode!r} each hospital adds"
                " all of its own noise, and ε trusts nobody. Leave it out."
            )
        if self.may_collude > self.colluding:
            raise UnsupportedMechanism(
                f"may_collude={self.may_collude} is above {self.colluding}: with a threshold of {self.threshold} of"
                f" {len(self.hospitals)} hospitals the masks hide a hospital from the researcher and up to"
                f" {self.colluding} others. Assume fewer, or raise the threshold."
            )

    @property
    def shares_noise(self) -> bool:
        """Whether hospitals add parts of one noise, and not each all of its own."""
        return self.mode == SHARED_NOISE

    @property
    def parts(self) -> int:
        """How many parts make the whole noise: those of a smallest sum that nobody else knows; 1 under masks."""
        return self.threshold - self.may_collude if self.shares_noise else 1

    @property
    def largest(self) -> int:
        """Whole units that one hospital's number may come to, so that the sum of all of them fits a word."""
        return int(2 ** (WORD - 1) - 1) // len(self.hospitals)

    @property
    def grid(self) -> float:
        """What one unit stands for: the smallest power of two at which `reach` is at most `largest` units."""
        return math.ldexp(1.0, math.ceil(math.log2(self.reach / self.largest)))

    @property
    def most_patients(self) -> int:
        """Of the largest hospital, which weighs 1."""
        return max(party.patients for party in self.hospitals)

    @property
    def colluding(self) -> int:
        """Hospitals that may work together with the researcher and still learn nothing of one other hospital.

        A secret opens with `threshold` shares, and every other hospital answers once: for both of one hospital's
        secrets the n − k others would have to give 2 (t − k) answers, so 2 t > n + k. And what is left of the sum when
        the k take away their own numbers must be of two hospitals or more, so k ≤ t − 2.
        """
        return max(0, min(2 * self.threshold - len(self.hospitals) - 1, self.threshold - 2))

    def party_of(self, key: str) -> int | None:
        """The number of the hospital with this key, from 1, or None."""
        keys = [party.key for party in self.hospitals]
        return keys.index(key) + 1 if key in keys else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as the request's source writes it."""
        return {
            "mode": self.mode,
            "threshold": self.threshold,
            "reach": self.reach,
            "hospitals": [[party.name, party.key, party.patients] for party in self.hospitals],
            **({"scale": self.scale} if self.scale else {}),
            **({"may_collude": self.may_collude} if self.shares_noise else {}),
        }


def secure_aggregation_from(data: object) -> SecureAggregation | None:
    """The declaration that `as_dict` wrote, or None of None. Raises `UnsupportedMechanism`."""
    if data is None or isinstance(data, SecureAggregation):
        return data
    known = {"mode", "threshold", "reach", "hospitals", "scale", "may_collude"}
    if not isinstance(data, Mapping) or not {"threshold", "hospitals"} <= set(data) <= known:
        raise UnsupportedMechanism(
            "secure_aggregation is not written as {'threshold': 2, 'hospitals': [['NAME', 'KEY', PATIENTS], ...]}."
        )
    rows = data["hospitals"]
    if not isinstance(rows, Sequence) or not all(isinstance(row, list | tuple) and len(row) == 3 for row in rows):
        raise UnsupportedMechanism("secure_aggregation: a hospital is written as ['NAME', 'KEY', PATIENTS].")
    return SecureAggregation(**{**data, "hospitals": tuple(Party(*row) for row in rows)})


def _check_party(party: Party) -> None:
    name, key = party.name, party.key
    if not isinstance(name, str) or not 0 < len(name.strip()) <= LONGEST_NAME or visible(name) != name:
        raise UnsupportedMechanism(f"secure_aggregation names a hospital {str(name)[:60]!r}, which is no plain name.")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise UnsupportedMechanism(
            f"secure_aggregation has for {name} a key {str(key)[:20]!r}. It is 64 digits of 0-9 and a-f: the public_key"
            " that its datasite publishes."
        )
    check_range("patients", party.patients, 1, 2**40, whole=True)
