"""Subgroups that an evaluation answers apart, and the draws of noise that it is made of.

A subgroup is a declared column: the labels of a boolean or a category, or bands of a number. An evaluation draws one
record of each held-out patient before anything is counted, so a patient is in exactly one group of each column,
whatever their other records say. The groups of one column are then disjoint: one patient more or less changes one
group's table, and all groups of a column together cost what one table costs. A second column asks about the same
patients again and is paid for again, out of the same ε, which all tables share equally.
"""

from __future__ import annotations

import itertools
import math

from policies.errors import UnsupportedMechanism
from policies.privacy.outcomes import OUTCOMES, Outcome, Target

Subgroup = str | tuple[str | float, ...]

MOST_SUBGROUPS = 8
MOST_CUTS = 20


def check_subgroups(subgroups: object) -> None:
    """Raise `UnsupportedMechanism` unless they are columns, or columns with rising cuts, no column twice."""
    if not isinstance(subgroups, tuple) or len(subgroups) > MOST_SUBGROUPS:
        raise UnsupportedMechanism(
            f"subgroups={subgroups!r:.80} is not a tuple of at most {MOST_SUBGROUPS} columns, as ('sex', ('age', 65))."
        )
    for subgroup in subgroups:
        if not (isinstance(subgroup, str) and subgroup) and not _is_banded(subgroup):
            raise UnsupportedMechanism(
                f"subgroups has {subgroup!r:.80}. Write a category's name, 'sex', or a number's with 1 to {MOST_CUTS}"
                " rising cuts, ('age', 40, 65)."
            )
    names = [column_of(subgroup) for subgroup in subgroups]
    if len(set(names)) != len(names):
        raise UnsupportedMechanism(f"subgroups={subgroups!r:.80} names a column twice. Name each once.")


def column_of(subgroup: Subgroup) -> str:
    """The column that tells which group a record is in."""
    return subgroup if isinstance(subgroup, str) else str(subgroup[0])


def cuts_of(subgroup: Subgroup) -> tuple[float, ...]:
    """Where one band ends and the next begins: a value on a cut is in the upper one. Empty for labels."""
    return () if isinstance(subgroup, str) else tuple(float(cut) for cut in subgroup[1:])


def tables_of(loss: str, target: Target) -> tuple[int, ...]:
    """In how many parts of equal ε the tables of one kind answer: one for most outcomes, two for a time, and one for
    each named label."""
    outcome = OUTCOMES[loss]
    if outcome is Outcome.TIME:
        return (1, 1)
    return (1,) * (len(target) if outcome is Outcome.LABELS and isinstance(target, tuple) else 1)


def draw_epsilons(epsilon: float, loss: str, target: Target, subgroups: tuple[Subgroup, ...]) -> tuple[float, ...]:
    """ε of each part of an evaluation, in order: all patients first, then each subgroup. Never above `epsilon` in all.

    >>> draw_epsilons(1.0, "cross_entropy", None, ())
    (1.0,)
    """
    count = len(tables_of(loss, target)) * (1 + len(subgroups))
    return (epsilon,) if count == 1 else (math.nextafter(epsilon / count, 0.0),) * count


def _is_banded(subgroup: object) -> bool:
    if not isinstance(subgroup, tuple) or not 2 <= len(subgroup) <= MOST_CUTS + 1:
        return False
    name, *cuts = subgroup
    if not isinstance(name, str) or not name:
        return False
    plain = all(isinstance(cut, int | float) and not isinstance(cut, bool) and math.isfinite(cut) for cut in cuts)
    return plain and all(low < high for low, high in itertools.pairwise(cuts))
