"""What will be run, as frozen declarations. Both the charge and the run are built from these values alone.

Three mechanisms exist. Each is a dataclass whose fields are public facts, checked when it is made:

* `DPSGD` trains a model (Abadi et al. 2016, arXiv:1607.00133), the patient as unit.
* `Statistics` answers counts, sums, means, variances, quantiles, histograms and crosstabs with pure ε.
* `Evaluation` answers a histogram of a model's scores per class on the hold-out with pure ε.

`as_dict` and `mechanism_from` write and read them as plain data. Nothing here runs anything.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, get_args

from policies.errors import UnsupportedMechanism


class Patients(StrEnum):
    """Which patients of a population a mechanism reads: those who train, those who are held out, or all."""

    TRAINING = "training"
    HELD_OUT = "held_out"
    ALL = "all"


LOSSES = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "linear", "cosine")
CLIPPINGS = ("norm", "automatic")
STABILITY = 0.01
"""γ of automatic clipping, as Bu et al. 2022 set it: gradients much shorter than this keep their length's order."""

LATER = {"later": True}
"""Of a field that came after requests, plans and certificates were in use: where it holds its default it is written
nowhere, so that what was made before has the same text and the same digest."""
STATISTICS = ("count", "sum", "mean", "variance", "quantiles", "histogram", "crosstab")


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


@dataclass(frozen=True, kw_only=True)
class DPSGD:
    """Rounds of differentially private stochastic gradient descent (Abadi et al. 2016, arXiv:1607.00133).

    Each step Poisson-samples *patients* at `sampling_rate`, draws one training record uniformly per sampled patient,
    clips its gradient to `clipping_norm` in L2, adds Gaussian noise of `noise_multiplier * clipping_norm`, and divides
    by the public expected batch size `sampling_rate * patients published`. Sensitivity: adding or removing one patient
    changes the clipped sum by at most `clipping_norm`.

    Args:
      loss: one of `LOSSES`. `binary_cross_entropy` takes one output in (0, 1), `..._with_logits` one logit,
        `cross_entropy` one logit per class.
      rounds: releases in all, 1 to 1000.
      steps: optimizer steps per round, 1 to 100,000.
      sampling_rate: chance per step that a patient joins the batch, in (0, 1].
      clipping_norm: largest L2 norm of one record's gradient, in (0, 1000].
      epsilon: target ε for all rounds together at `delta`, or None where `noise_multiplier` is given.
      noise_multiplier: noise standard deviation over clipping norm, in (0, 1000], or None where `epsilon` is given.
      delta: δ of that ε, in (0, 0.01].
      learning_rate: in (0, 1000].
      optimizer: one of `OPTIMIZERS`; its state starts anew each round.
      momentum: of sgd, in [0, 1).
      weight_decay: in [0, 10]; independent of the data.
      proximal_mu: FedProx's pull towards the round's incoming weights (Li et al. 2020, arXiv:1812.06127), in [0, 1000].
      inputs: `"features"` (all of the schema's, in order), the name of a declared sequence, or a tuple of column names.
      schedule: one of `SCHEDULES`: what becomes of the learning rate from the first step of the first round to the last
        of the last one, a function of round and step alone. See `rate`.
      clipping: `"norm"` shortens a gradient g that is longer than C = `clipping_norm` to it; `"automatic"` gives every
        gradient nearly that length, g · C / (‖g‖ + 0.01), which is below C (Bu et al. 2022, arXiv:2206.07136). Then
        only the product of C and learning rate matters, and C may stay 1.
    """

    kind: ClassVar[str] = "dp_sgd"
    reads: ClassVar[Patients] = Patients.TRAINING
    loss: str
    rounds: int
    steps: int
    sampling_rate: float
    clipping_norm: float
    learning_rate: float
    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    optimizer: str = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal_mu: float = 0.0
    inputs: str | tuple[str, ...] = "features"
    schedule: str = field(default="constant", metadata=LATER)
    clipping: str = field(default="norm", metadata=LATER)

    def __post_init__(self) -> None:
        choices = {"loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "clipping": CLIPPINGS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UnsupportedMechanism(
                    f"{name}={getattr(self, name)!r} is not known. Use one of {', '.join(known)}."
                )
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        check_range("steps", self.steps, 1, 100_000, whole=True)
        check_range("sampling_rate", self.sampling_rate, 0, 1, open_low=True)
        check_range("clipping_norm", self.clipping_norm, 0, 1000, open_low=True)
        check_range("learning_rate", self.learning_rate, 0, 1000, open_low=True)
        check_range("delta", self.delta, 0, 0.01, open_low=True)
        check_range("momentum", self.momentum, 0, 0.9999)
        check_range("weight_decay", self.weight_decay, 0, 10)
        check_range("proximal_mu", self.proximal_mu, 0, 1000)
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise UnsupportedMechanism("Give either epsilon or noise_multiplier, and not both.")
        if self.epsilon is not None:
            check_range("epsilon", self.epsilon, 0, 100, open_low=True)
        if self.noise_multiplier is not None:
            check_range("noise_multiplier", self.noise_multiplier, 0, 1000, open_low=True)
        _check_inputs(self.inputs)

    @property
    def stability(self) -> float:
        """γ of automatic clipping, which is added to a gradient's norm; 0 where only what is longer is shortened."""
        return STABILITY if self.clipping == "automatic" else 0.0

    def rate(self, round: int, step: int) -> float:
        """The learning rate of a step, both from 1: a function of what was declared, and of no data.

        With t of T steps behind it: `constant` is `learning_rate`, `linear` (1 - t / T) of it, `cosine`
        (1 + cos(π t / T)) / 2 of it. None is 0.
        """
        passed = ((round - 1) * self.steps + step - 1) / (self.rounds * self.steps)
        match self.schedule:
            case "linear":
                return self.learning_rate * (1 - passed)
            case "cosine":
                return self.learning_rate * (1 + math.cos(math.pi * passed)) / 2
            case _:
                return self.learning_rate


@dataclass(frozen=True)
class Query:
    """One statistic: its `name` in `STATISTICS`, the `columns` it reads and, for quantiles, the `ranks` in (0, 1)."""

    name: str
    columns: tuple[str, ...] = ()
    ranks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in STATISTICS:
            raise UnsupportedMechanism(f"{self.name!r} is not a statistic. Use one of {', '.join(STATISTICS)}.")
        wanted = {"count": 0, "crosstab": 2}.get(self.name, 1)
        if len(self.columns) != wanted:
            raise UnsupportedMechanism(f"{self.name} takes {wanted} column(s), not {len(self.columns)}.")
        if (self.name == "quantiles") != bool(self.ranks):
            raise UnsupportedMechanism("quantiles, and only they, take ranks, as quantiles={'age': [0.25, 0.5, 0.75]}.")
        for rank in self.ranks:
            check_range("rank", rank, 0.0, 1.0)

    @property
    def key(self) -> str:
        """The name of this statistic's tensor in a release, as `mean/temperature` or `crosstab/sex,influenza`."""
        return "/".join((self.name, ",".join(self.columns))) if self.columns else self.name


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics with pure ε in all, shared equally by the queries; Laplace noise only.

    Each patient gives at most `records_per_patient` records, drawn uniformly. Each query gets an equal part of ε.

    Args:
      queries: 1 to 32 of them, no two alike.
      epsilon: for all of them together, in (0, 100].
      records_per_patient: 1 to 100.
      bins: cells of a histogram or crosstab over a numeric column, equal in width between its bounds, 2 to 1000.
      rounds: how often it may be asked; each costs `epsilon` again.
    """

    kind: ClassVar[str] = "statistics"
    reads: ClassVar[Patients] = Patients.ALL
    queries: tuple[Query, ...]
    epsilon: float
    records_per_patient: int = 1
    bins: int = 10
    rounds: int = 1

    def __post_init__(self) -> None:
        if not 1 <= len(self.queries) <= 32 or len({query.key for query in self.queries}) != len(self.queries):
            raise UnsupportedMechanism("Ask for 1 to 32 statistics, no two alike, as count=True, mean='temperature'.")
        check_range("epsilon", self.epsilon, 0, 100, open_low=True)
        check_range("records_per_patient", self.records_per_patient, 1, 100, whole=True)
        check_range("bins", self.bins, 2, 1000, whole=True)
        check_range("rounds", self.rounds, 1, 1000, whole=True)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A histogram of a model's scores per class on the hold-out: pure ε per release, L1 sensitivity 1.

    One record is drawn uniformly per held-out patient and falls into exactly one cell. With one output (or two classes)
    the cells are [true class, score bin]; with more classes [true class, predicted class, bin of the largest
    probability]. Bins are equal in width over [0, 1].

    Args:
      loss: tells what the model's output is, as in `DPSGD`.
      epsilon: of each release, in (0, 100].
      bins: 2 to 1000.
      rounds: how many models may be scored, each at `epsilon`.
      inputs: as in `DPSGD`.
    """

    kind: ClassVar[str] = "evaluation"
    reads: ClassVar[Patients] = Patients.HELD_OUT
    loss: str
    epsilon: float
    bins: int = 20
    rounds: int = 1
    inputs: str | tuple[str, ...] = "features"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UnsupportedMechanism(f"loss={self.loss!r} is not known. Use one of {', '.join(LOSSES)}.")
        check_range("epsilon", self.epsilon, 0, 100, open_low=True)
        check_range("bins", self.bins, 2, 1000, whole=True)
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        _check_inputs(self.inputs)


Mechanism = DPSGD | Statistics | Evaluation


def as_dict(mechanism: Mechanism) -> dict[str, Any]:
    """A mechanism as plain data, with its `kind`; `mechanism_from` reads it back to an equal value.

    Fields that came `LATER` are left out where they hold their default.
    """
    data = {"kind": mechanism.kind, **dataclasses.asdict(mechanism)}
    for declared in dataclasses.fields(mechanism):
        if declared.metadata.get("later") and data[declared.name] == declared.default:
            del data[declared.name]
    return data


def mechanism_from(data: dict[str, Any]) -> Mechanism:
    """The mechanism that `as_dict` wrote (also after a trip through JSON). Raises `UnsupportedMechanism`."""
    fields = dict(data)
    kind = fields.pop("kind", None)
    for known in get_args(Mechanism):
        if known.kind == kind:
            names = {field.name for field in dataclasses.fields(known)}
            if extra := set(fields) - names:
                raise UnsupportedMechanism(f"{kind} does not take {', '.join(sorted(extra))}.")
            if isinstance(fields.get("inputs"), list):
                fields["inputs"] = tuple(fields["inputs"])
            if "queries" in fields:
                fields["queries"] = tuple(
                    Query(query["name"], tuple(query["columns"]), tuple(query["ranks"])) for query in fields["queries"]
                )
            try:
                result: Mechanism = known(**fields)
            except TypeError as error:
                raise UnsupportedMechanism(f"{kind}: {error}.") from None
            return result
    raise UnsupportedMechanism(f"Mechanism {kind!r} is not known. Use dp_sgd, statistics or evaluation.")


def _check_inputs(inputs: object) -> None:
    names = (inputs,) if isinstance(inputs, str) else inputs
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise UnsupportedMechanism(f"inputs={inputs!r} is neither a name nor a tuple of column names.")
