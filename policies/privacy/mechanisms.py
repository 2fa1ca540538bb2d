"""What will be run, as frozen declarations. Both the charge and the run are built from these values alone.

Five mechanisms exist. Each is a dataclass whose fields are public facts, checked when it is made:

* `DPSGD` trains a model (Abadi et al. 2016, arXiv:1607.00133), the patient as unit.
* `Statistics` answers counts, sums, means, variances, quantiles, histograms, crosstabs and how much is missing with
  pure ε, of all records or of those that a condition holds for, together or by groups.
* `Evaluation` answers tables of a model's predictions beside what came true on the hold-out with pure ε.
* `KaplanMeier` answers a histogram of time and event, from which survival is read, with pure ε.
* `Regression` answers sums from which coefficients are read, by the Gaussian mechanism.

`as_dict` and `mechanism_from` write and read them as plain data. Nothing here runs anything.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from policies.errors import UnsupportedMechanism
from policies.privacy.checks import Patients as Patients
from policies.privacy.checks import check_noise
from policies.privacy.checks import check_range as check_range
from policies.privacy.conditions import parse
from policies.privacy.grouping import Grouping, check_groupings
from policies.privacy.outcomes import LOSSES as LOSSES
from policies.privacy.outcomes import Outcome, Target, check_constants, check_loss, check_target, outcome_of
from policies.privacy.parts import check_parts
from policies.privacy.regression import Regression as Regression
from policies.privacy.secure_aggregation import SecureAggregation, secure_aggregation_from
from policies.privacy.shared_steps import SHAREABLE, StepGrid, check_shareable
from policies.privacy.subgroups import Subgroup, check_subgroups, draw_epsilons
from policies.privacy.survival import KaplanMeier as KaplanMeier

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "linear", "cosine")
CLIPPINGS = ("norm", "automatic")
STABILITY = 0.01
"""γ of automatic clipping, as Bu et al. 2022 set it: gradients much shorter than this keep their length's order."""
COMPRESSIONS = ("none", "int8", "int4")
STATISTICS = ("count", "sum", "mean", "variance", "quantiles", "histogram", "crosstab", "missing", "describe")
MOST_QUERIES, MOST_DESCRIBED = 32, 500


@dataclass(frozen=True, kw_only=True)
class DPSGD:
    """Rounds of differentially private stochastic gradient descent (Abadi et al. 2016, arXiv:1607.00133).

    Each step Poisson-samples *patients* at `sampling_rate`, draws one training record uniformly per sampled patient,
    clips its gradient to `clipping_norm` in L2, adds Gaussian noise of `noise_multiplier * clipping_norm`, and divides
    by the public expected batch size `sampling_rate * patients published`. Sensitivity: adding or removing one patient
    changes the clipped sum by at most `clipping_norm`.

    Args:
      loss: one of `LOSSES`. `binary_cross_entropy` takes one output in (0, 1), `..._with_logits` one logit,
        `cross_entropy` one logit per class; `mean_squared_error` and `huber` one number, the target scaled to [-1, 1]
        by its declared bounds; `poisson` the logarithm of a count's rate; `discrete_hazards` one logit for each of the
        equal intervals up to the horizon; `multilabel_...` one logit per label.
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
      inputs: `"features"` (all of the schema's, in order), the name of a declared sequence, or a tuple of column names
        and of terms, as `("age", "log(crp, 1)")`.
      schedule: one of `SCHEDULES`: what becomes of the learning rate from the first step of the first round to the last
        of the last one, a function of round and step alone. See `rate`.
      clipping: `"norm"` shortens a gradient g that is longer than C = `clipping_norm` to it; `"automatic"` gives every
        gradient nearly that length, g · C / (‖g‖ + 0.01), which is below C (Bu et al. 2022, arXiv:2206.07136). Then
        only the product of C and learning rate matters, and C may stay 1.
      target: another declared column than the schema's target; a tuple of booleans for several labels, and of a time
        and an event, in this order, for `discrete_hazards`. None for the schema's.
      horizon: of a named time and event, up to where time counts, in the time column's units.
      class_weights: public factors of the loss, one per class or label, each in (0, 1000]; () for none.
      huber_delta: of `huber`, where its square ends and its line begins, in the target's own units.
      frozen: names of parameters that are public constants, as `("body.*",)` (`privacy.parts`).
      local: names of parameters that are trained and stay at the hospital.
      public_weights: digest of what frozen parameters are and local ones begin with.
      initial: digest of the public weights that the first round begins with; "" where none were named.
      secure_aggregation: the hospitals whose sum alone can be read, and how many it needs; None to release by itself.
        Under shared noise a round is one step of sgd, and `noise_multiplier` is of the whole noise (`shared_steps`).
      compression: one of `COMPRESSIONS`: in what form weights leave. `"int8"` and `"int4"` are whole numbers on a
        public grid of the round's noise (`policies.release.compression`), for a seventh or less of the bytes.
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
    target: Target = None
    horizon: float | None = None
    class_weights: tuple[float, ...] = ()
    huber_delta: float | None = None
    frozen: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    public_weights: str = ""
    initial: str = ""
    schedule: str = "constant"
    clipping: str = "norm"
    secure_aggregation: SecureAggregation | None = None
    compression: str = "none"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        if self.compression not in COMPRESSIONS:
            raise UnsupportedMechanism(
                f"compression={self.compression!r} is not known. Use one of {', '.join(COMPRESSIONS)}."
            )
        if self.compression != "none" and self.secure_aggregation is not None:
            raise UnsupportedMechanism(
                f"compression={self.compression!r} and secure_aggregation do not go together: masks are as wide as the"
                ' sum that they hide. Leave one of them out; compression="none" is the default.'
            )
        if self.secure_aggregation is not None and self.secure_aggregation.shares_noise:
            check_shareable({name: getattr(self, name) for name in SHAREABLE})
        check_target(self.loss, self.target, self.horizon)
        check_constants(self.loss, self.class_weights, self.huber_delta)
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "clipping": CLIPPINGS}
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
        check_noise(self.epsilon, self.noise_multiplier)
        _check_inputs(self.inputs)
        check_parts(frozen=self.frozen, local=self.local, public_weights=self.public_weights, initial=self.initial)

    @property
    def step_grid(self) -> StepGrid | None:
        """Where the sums of its one step lie, if hospitals share its noise."""
        declared = self.secure_aggregation
        if declared is None or not declared.shares_noise:
            return None
        return StepGrid(roster=declared, clipping_norm=self.clipping_norm, sampling_rate=self.sampling_rate)

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

    Each patient gives at most `records_per_patient` records, drawn uniformly among those for which `where` holds. Each
    query gets an equal part of ε. Groups are disjoint, so that all of them together cost what one does; a patient whose
    records lie in several groups moves them by no more than `records_per_patient` together.

    Args:
      queries: 1 to 32 of them, and up to 500 columns described; no two alike.
      epsilon: for all of them together, in (0, 100].
      records_per_patient: 1 to 100.
      bins: cells of a histogram or crosstab over a numeric column, equal in width between its bounds, 2 to 1000.
      rounds: how often it may be asked; each costs `epsilon` again.
      where: a condition as `age >= 65` (`conditions`), for records that count; all of them where it is empty.
      group_by: columns whose groups are answered apart (`grouping`); all together where there are none.
      secure_aggregation: as in `DPSGD`; what answers are made of leaves in a sum over hospitals alone, each with its
        whole noise.
    """

    kind: ClassVar[str] = "statistics"
    reads: ClassVar[Patients] = Patients.ALL
    queries: tuple[Query, ...]
    epsilon: float
    records_per_patient: int = 1
    bins: int = 10
    rounds: int = 1
    where: str = ""
    group_by: tuple[Grouping, ...] = ()
    secure_aggregation: SecureAggregation | None = None

    def __post_init__(self) -> None:
        described = sum(query.name == "describe" for query in self.queries)
        others = len(self.queries) - described
        alike = len({query.key for query in self.queries}) != len(self.queries)
        if not self.queries or others > MOST_QUERIES or described > MOST_DESCRIBED or alike:
            raise UnsupportedMechanism("Ask for 1 to 32 statistics, no two alike, as count=True, mean='temperature'.")
        check_range("epsilon", self.epsilon, 0, 100, open_low=True)
        check_range("records_per_patient", self.records_per_patient, 1, 100, whole=True)
        check_range("bins", self.bins, 2, 1000, whole=True)
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        if self.where != "":
            parse(self.where)
        check_groupings(self.group_by)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Tables of a model's predictions beside what came true on the hold-out: pure ε per release.

    One record is drawn uniformly per held-out patient and falls into exactly one cell of each table, so a table's L1
    sensitivity is 1. The tables share ε equally: one over all patients, and one for each subgroup (`subgroups`).

    Cells of classes, with one output (or two classes): [true class, score bin]; with more [true class, predicted class,
    bin of the largest probability]. Bins are equal in width over [0, 1]. Of numbers and counts: [bin of the prediction,
    cell of the outcome], between the target's declared bounds. Of labels: [label, no or yes, score bin]; a record is in
    one cell of each label, and labels share their table's ε. Of a time and an event: [what is known of the time, bin of
    the predicted risk by the horizon], at half of the table's ε, and for the other half sums of squared errors of the
    predicted survival at every interval's end.

    Args:
      loss: tells what the model's output is, as in `DPSGD`.
      epsilon: of each release, all tables together, in (0, 100].
      bins: 2 to 1000.
      rounds: how many models may be scored, each at `epsilon`.
      inputs: as in `DPSGD`.
      target: as in `DPSGD`.
      horizon: as in `DPSGD`.
      subgroups: columns whose groups are answered apart, as `("sex", ("age", 40, 65))`; at most 8.
      frozen: as in `DPSGD`.
      local: as in `DPSGD`; their values are those that training left at the hospital.
      public_weights: as in `DPSGD`.
      trained_as: the function of the request that trained the local parameters.
      secure_aggregation: as in `DPSGD`; of the tables leaves a sum over hospitals alone, each with its whole noise.
    """

    kind: ClassVar[str] = "evaluation"
    reads: ClassVar[Patients] = Patients.HELD_OUT
    loss: str
    epsilon: float
    bins: int = 20
    rounds: int = 1
    inputs: str | tuple[str, ...] = "features"
    target: Target = None
    horizon: float | None = None
    subgroups: tuple[Subgroup, ...] = ()
    frozen: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    public_weights: str = ""
    trained_as: str = ""
    secure_aggregation: SecureAggregation | None = None

    def __post_init__(self) -> None:
        check_loss(self.loss)
        check_target(self.loss, self.target, self.horizon)
        check_subgroups(self.subgroups)
        check_range("epsilon", self.epsilon, 0, 100, open_low=True)
        check_range("bins", self.bins, 2, 1000, whole=True)
        check_range("rounds", self.rounds, 1, 1000, whole=True)
        _check_inputs(self.inputs)
        check_parts(
            frozen=self.frozen, local=self.local, public_weights=self.public_weights, trained_as=self.trained_as
        )

    @property
    def outcome(self) -> Outcome:
        """What the model predicts."""
        return outcome_of(self.loss)

    @property
    def draws(self) -> tuple[float, ...]:
        """ε of each independent part of a release, never above `epsilon` in all."""
        return draw_epsilons(self.epsilon, self.loss, self.target, self.subgroups)


Mechanism = DPSGD | Statistics | Evaluation | KaplanMeier | Regression
Gaussian = DPSGD | Regression
"""Those whose noise is Gaussian: they have a noise multiplier, found for an ε, and a δ of their own."""
_LATER = frozenset(
    {"where", "group_by", "target", "horizon", "class_weights", "huber_delta", "subgroups", "schedule", "clipping"}
    | {"frozen", "local", "public_weights", "initial", "trained_as", "secure_aggregation", "compression"}
)


def as_dict(mechanism: Mechanism) -> dict[str, Any]:
    """A mechanism as plain data, with its `kind`; `mechanism_from` reads it back to an equal value.

    What came later is left out where it has its default, so that a mechanism is written as it was before.
    """
    later = {
        field.name
        for field in dataclasses.fields(mechanism)
        if field.name in _LATER and getattr(mechanism, field.name) == field.default
    }
    written = dataclasses.asdict(mechanism)
    if declared := getattr(mechanism, "secure_aggregation", None):
        written["secure_aggregation"] = declared.as_dict()
    return {"kind": mechanism.kind, **{name: value for name, value in written.items() if name not in later}}


_TUPLES = ("inputs", "target", "class_weights", "subgroups", "terms", "outcome_range", "frozen", "local")


def mechanism_from(data: dict[str, Any]) -> Mechanism:
    """The mechanism that `as_dict` wrote (also after a trip through JSON). Raises `UnsupportedMechanism`."""
    fields = dict(data)
    kind = fields.pop("kind", None)
    for known in get_args(Mechanism):
        if known.kind == kind:
            names = {field.name for field in dataclasses.fields(known)}
            if extra := set(fields) - names:
                raise UnsupportedMechanism(f"{kind} does not take {', '.join(sorted(extra))}.")
            fields |= {name: _tuples(fields[name]) for name in _TUPLES if name in fields}
            if "secure_aggregation" in fields:
                fields["secure_aggregation"] = secure_aggregation_from(fields["secure_aggregation"])
            if "group_by" in fields:
                fields["group_by"] = tuple(Grouping(by["column"], tuple(by["edges"])) for by in fields["group_by"])
            if "queries" in fields:
                fields["queries"] = tuple(
                    Query(query["name"], tuple(query["columns"]), tuple(query["ranks"])) for query in fields["queries"]
                )
            try:
                result: Mechanism = known(**fields)
            except TypeError as error:
                raise UnsupportedMechanism(f"{kind}: {error}.") from None
            return result
    known_kinds = ", ".join(known.kind for known in get_args(Mechanism))
    raise UnsupportedMechanism(f"Mechanism {kind!r} is not known. Use one of {known_kinds}.")


def _tuples(value: Any) -> Any:
    """Lists as the tuples that they were before a trip through JSON."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def _check_inputs(inputs: object) -> None:
    names = (inputs,) if isinstance(inputs, str) else inputs
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise UnsupportedMechanism(f"inputs={inputs!r} is neither a name nor a tuple of column names.")
