"""What is tried of every mechanism: pairs of neighbours, faults to plant, and how much a release may tell.

To add a mechanism, write a module into `tests/proof/mechanisms/` that makes one `PROOF`. It is found there, and no
other file needs a line. `evaluation.py` is a short one to copy from. It says

* `declared`, `job`, `loss`: the mechanism's class, the runner's job that works for it, and the privacy loss
  distribution of one release. A module with more pairs of a class that another module has leaves all three out.
* `cases`: pairs of tables that differ by one patient and straddle each boundary of what the mechanism does (many
  records, values that are not finite, an empty table), with what an attacker sees of a run, as a short vector.
* `faults`: each replaces something of ours for a moment and says with which chances its best event comes, without the
  patient and with. The chances are worked out from what the fault does, before anything runs; they set the trials.
* `controls`: faults without such chances, tried as often as their pair is.

`python -m pytest tests/proof/test_registry.py` says what is missing, `python -m tests.proof --fault NAME` tries one.
Tables of other columns go with a `schema` of their own, to `Case` and to `tests.proof.cases.release`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from policies.privacy import accountant
from policies.privacy.mechanisms import Mechanism
from policies.schema.schemas import Schema
from tests.proof import mechanisms
from tests.proof.attacker import FloatArray
from tests.proof.curves import Curve
from tests.proof.neighbours import SCHEMA, Matrix

TRADE_OFF, STATIC = "trade-off test", "static check"
Plant = Callable[[], AbstractContextManager[Any]]
Job = Callable[[dict[str, Any], bytes, Matrix], tuple[dict[str, Any], bytes]]


@dataclass(frozen=True)
class Case:
    """One pair under one mechanism.

    Args:
      declared: as a researcher writes it, before its noise is found.
      tables: without the patient, and with.
      watch: what one run over a table shows to the attacker, as a vector.
      hidden: units of the model that goes in (see `neighbours.graph_of`), for the static check; None without one.
      schema: of the tables.
      each_night: whether `test_many_trials` alone tries it, being dear and much like another one.
    """

    name: str
    declared: Mechanism
    tables: Callable[[], tuple[Matrix, Matrix]]
    watch: Callable[[Mechanism, Matrix], FloatArray]
    hidden: int | None = None
    schema: Schema = SCHEMA
    each_night: bool = False

    @cached_property
    def curve(self) -> Curve:
        """What the mechanism allows. Ask before a fault is planted: then it is the unspoilt accountant's, and stays."""
        return curve_of(accountant.resolve(self.declared))


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
      plant: replaces ours while its block runs.
      case: name of the pair that shows it.
      detector: what is to find it.
      chances: of the best event, without and with the patient, under the fault; None for a static check or a control.
    """

    name: str
    plant: Plant
    case: str
    detector: str = TRADE_OFF
    chances: Callable[[], tuple[float, float]] | None = None


@dataclass(frozen=True)
class Proof:
    """What the harness knows of one mechanism; see the module's docstring.

    Args:
      cases: asked once, when pairs are first wanted.
      declared: class of the mechanism.
      job: of `datasites.jobs.child`: plan and schema as plain data, bytes of weights and a table; bytes of a release.
      loss: of a resolved mechanism the `dp_accounting` privacy loss distribution of one release, never optimistic.
    """

    cases: Callable[[], list[Case]]
    faults: tuple[Fault, ...] = ()
    controls: tuple[Fault, ...] = ()
    declared: type[Mechanism] | None = None
    job: Job | None = None
    loss: Callable[[Any], Any] | None = None


@cache
def proofs() -> dict[str, Proof]:
    """Every module's, by its name."""
    names = sorted(module.name for module in pkgutil.iter_modules(mechanisms.__path__))
    found: dict[str, Proof] = {name: import_module(f"{mechanisms.__name__}.{name}").PROOF for name in names}
    declared = [proof.declared for proof in found.values() if proof.declared is not None]
    assert len(declared) == len(set(declared)), "Two modules declare one mechanism: leave it out of one of them."
    return found


def proof_of(mechanism: Mechanism) -> Proof:
    """Of the module that declares a mechanism's class."""
    for proof in proofs().values():
        if proof.declared is type(mechanism):
            return proof
    raise LookupError(f"Nothing is proved of {type(mechanism).__name__}. Add a module to tests/proof/mechanisms.")


@cache
def cases() -> dict[str, Case]:
    """All pairs, by name."""
    listed = [case for proof in proofs().values() for case in proof.cases()]
    by_name = {case.name: case for case in listed}
    assert len(by_name) == len(listed), "Two pairs have one name."
    return by_name


@cache
def faults() -> tuple[Fault, ...]:
    """All planted faults whose chances are known beforehand, or that the static check finds."""
    listed = tuple(fault for proof in proofs().values() for fault in proof.faults)
    assert len({fault.name for fault in listed}) == len(listed), "Two faults have one name."
    return listed


@cache
def controls() -> tuple[Fault, ...]:
    """All others: so that pairs which no fault names are seen to be able to fail."""
    return tuple(fault for proof in proofs().values() for fault in proof.controls)


def fault_named(name: str) -> Fault:
    """One planted fault."""
    return next(fault for fault in faults() if fault.name == name)


@lru_cache(maxsize=256)
def curve_of(mechanism: Mechanism, *, rounds: int | None = None) -> Curve:
    """The curve of all rounds of a mechanism together (or of `rounds` of them), as `policies` declares it."""
    releases = mechanism.rounds if rounds is None else rounds
    loss = proof_of(mechanism).loss
    assert loss is not None
    return Curve.of(loss(mechanism).self_compose(releases))


def noise_of(case: str) -> float:
    """The noise multiplier that a pair's training declares."""
    noise = getattr(cases()[case].declared, "noise_multiplier", None)
    assert noise is not None
    return float(np.asarray(noise))
