"""Pilot trials, an event fixed on them, and then the trials that count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from policies.errors import WeightsRefused
from tests.proof.attacker import event_from
from tests.proof.cases import Case, cases, check_shapes, watched
from tests.proof.decisions import found, power, trials_for
from tests.proof.registry import STATIC, Fault, faults

PILOT = 40  # of each side
SPARE = 1.4  # trials over what the best event would need, since the fitted one is a little worse
LEAST = 30


@dataclass(frozen=True)
class Outcome:
    """How often the event was seen, and whether that is beyond the curve."""

    trials: int
    false_alarms: int
    hits: int
    found: bool

    def __str__(self) -> str:
        verdict = "FOUND" if self.found else "within the curve"
        return f"{self.false_alarms} and {self.hits} of {self.trials}: {verdict}"


def tried(case: Case, trials: int, *, pilot: int = PILOT, seed: str = "") -> Outcome:
    """An event fixed on `pilot` runs of each side, then counted in `trials` others."""
    curve = case.curve
    event = event_from(*watched(case, pilot, seed=f"pilot{seed}"), curve, trials)
    without, with_patient = (int(event.contains(seen).sum()) for seen in watched(case, trials, seed=f"trial{seed}"))
    return Outcome(trials, without, with_patient, found(curve, without, with_patient, trials))


def found_by_shape(case: Case) -> bool:
    """Whether the static check refuses what a case releases."""
    try:
        check_shapes(case)
    except WeightsRefused:
        return True
    return False


@cache
def trials_of(fault: Fault) -> int:
    """Trials of each side, from the power against the fault."""
    assert fault.chances is not None
    return max(LEAST, round(SPARE * trials_for(cases()[fault.case].curve, *fault.chances())))


def power_of(fault: Fault) -> float:
    """The best event's power against the fault at that number of trials."""
    assert fault.chances is not None
    return power(cases()[fault.case].curve, *fault.chances(), trials_of(fault))


@cache
def trials_of_case(name: str) -> int:
    """Trials of ours: as many as the most demanding fault of the pair has, so that ours had the same chance to fail.

    And never fewer than find what tells a patient for certain: below some number, which grows with the ε of a
    mechanism, nothing that is seen can be beyond the curve.
    """
    certain = max(LEAST, round(SPARE * trials_for(cases()[name].curve, 0.0, 1.0)))
    named = (trials_of(fault) for fault in faults() if fault.case == name and fault.detector != STATIC)
    return max((certain, *named))
