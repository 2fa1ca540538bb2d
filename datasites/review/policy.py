"""An owner's policy, and one check for each rule in it: they raise `RuleBroken` and change nothing.

The budget in the ledger is what protects patients. These rules are the owner's own judgement on top of it, kept in
`policy.toml`. A check is a function under `@check("Title")`: it gives a plain sentence where it passes. That one line
is all that a new check needs to be run at every approval and to be listed on every page.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from datasites.ledger.years import YearlyPlan
from datasites.shapes import checked, shapes
from policies.errors import DatasiteError, RuleBroken
from policies.numbers import counted, written
from policies.privacy.mechanisms import DPSGD, Gaussian
from policies.privacy.risk import rounded_up
from policies.privacy.shared_sums import shown
from policies.privacy.sharing import shared_of
from policies.release.plans import Plan, Published

Kind = Literal["dp_sgd", "evaluation", "statistics", "kaplan_meier", "regression"]
MECHANISMS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_POLICY = """\
# The owner's policy: what may be approved at all. Read anew at each check; where a line cannot be read, nothing is
# approved. The budget of each population is kept in the ledger and holds whatever is written here.

max_epsilon = 4.0              # largest ε of one request, all of its rounds together
max_delta = 1e-5               # largest δ of one request
delta_per_patient = 1.0        # largest δ times the number of patients as published: at 1.0, δ is at most 1/patients
min_noise_multiplier = 0.5     # least noise of training, as a multiple of one patient's largest share
min_batch = 10                 # least number of patients expected in a training step (sampling rate x patients)
max_rounds = 200               # most releases of one request
max_steps = 20000              # most training steps of one request, all of its rounds together
max_parameters = 1000000       # largest model, in numbers
min_patients = 50              # smallest dataset, in patients as published, of which anything is released
allowed_mechanisms = ["dp_sgd", "evaluation", "statistics", "kaplan_meier", "regression"]
approval_days = 30             # days after which an approval expires
typed_confirmation_epsilon = 1.0   # above this ε of a request, whoever approves types its name; 100 never asks

# How much ε one calendar year (in UTC) may add to what a population has lost; its budget stays the promise for ever.
# What a year leaves lapses; with carry_over_since, what that year and later ones leave is added to the next one's. A
# population that is not named has no plan; while one is named that is not here, nothing is approved. Take the hash away
# and name yours.
# yearly_plans = { "my-patients" = { epsilon = 2.0, carry_over_since = 2026 } }

# Above this ε of a request two people must agree: the owner, and a second reviewer with an account of the console
# (`datasite console-users add`). Neither sees the other's vote first. Take the hash away to use it.
# second_reviewer_epsilon = 2.0

# What may be decided without anybody: denying at once what fails a check, and approving at once a request whose every
# check passes, that needs no second reviewer, and whose ε is at most this. Both are off.
deny_at_once = false
# approve_at_once_epsilon = 0.1

# Hospitals that add parts of one noise trust each other for ε (`docs/owners.md`). The ledger charges what holds without
# that trust, unless whoever approves accepts the lesser ε in words, request by request. This is the largest ε that may
# then be left uncharged; at 0 nobody may accept.
shared_noise_epsilon = 0.0

# Largest ε of one researcher's releases together, per population. It is policy and no protection, since researchers may
# work together: take the hash away to use it.
# researcher_epsilon = 3.0
"""


Epsilon = Annotated[float, Meta(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """An owner's policy; `DEFAULT_POLICY` says what each field means, and has the same values.

    Raises:
      RuleBroken: a value is outside its range; everything is refused until the owner has mended it.
    """

    max_epsilon: Annotated[float, Meta(ge=1e-6, le=100)] = 4.0
    max_delta: Annotated[float, Meta(ge=1e-15, le=0.01)] = 1e-5
    delta_per_patient: Annotated[float, Meta(ge=1e-9, le=1)] = 1.0
    min_noise_multiplier: Annotated[float, Meta(ge=0.05, le=1000)] = 0.5
    min_batch: Annotated[float, Meta(ge=1, le=1_000_000)] = 10
    max_rounds: Annotated[int, Meta(ge=1, le=1000)] = 200
    max_steps: Annotated[int, Meta(ge=1, le=100_000_000)] = 20_000
    max_parameters: Annotated[int, Meta(ge=1, le=5_000_000)] = 1_000_000
    min_patients: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 50
    allowed_mechanisms: tuple[Kind, ...] = MECHANISMS
    approval_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    typed_confirmation_epsilon: Epsilon = 1.0
    second_reviewer_epsilon: Epsilon | None = None
    deny_at_once: bool = False
    approve_at_once_epsilon: Epsilon | None = None
    shared_noise_epsilon: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    researcher_epsilon: Epsilon | None = None
    yearly_plans: Mapping[str, YearlyPlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            try:
                checked(getattr(self, name), shape)
            except ValueError as error:
                raise _unreadable(f"{name} = {error}") from None
        object.__setattr__(self, "yearly_plans", _yearly_plans(self.yearly_plans))

    @classmethod
    def from_toml(cls, text: str) -> Rules:
        """The rules of a `policy.toml`; what it leaves out has its default. Raises `RuleBroken` naming the line."""
        try:
            values: dict[str, Any] = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(str(error)) from None
        known = [each.name for each in dataclasses.fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise _unreadable(f"{', '.join(unknown)}: not known. The rules are {', '.join(known)}")
        if isinstance(values.get("allowed_mechanisms"), list):
            values["allowed_mechanisms"] = tuple(values["allowed_mechanisms"])
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> Rules:
        """The owner's policy, as `policy.toml` has it now. Raises `RuleBroken` naming the line."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:  # without the path: a researcher may read this
            raise _unreadable(getattr(error, "strerror", None) or "it is not UTF-8") from None
        return cls.from_toml(text)


_SHAPES = {name: shape for name, shape in shapes(Rules).items() if name != "yearly_plans"}
_PLAN_SHAPES = {"epsilon": Epsilon, "carry_over_since": Annotated[int, Meta(ge=2000, le=2200)]}


def _yearly_plans(written: object) -> dict[str, YearlyPlan]:
    """Plans by population, of a table of tables. Raises `RuleBroken` naming what is none."""
    if not isinstance(written, Mapping):
        raise _unreadable(f"yearly_plans = {written!r} is not a table of populations")
    return {str(name): _yearly_plan(str(name), plan) for name, plan in written.items()}


def _yearly_plan(name: str, plan: object) -> YearlyPlan:
    if isinstance(plan, YearlyPlan):
        plan = {key: value for key, value in dataclasses.asdict(plan).items() if value is not None}
    if not isinstance(plan, Mapping) or "epsilon" not in plan or not set(plan) <= set(_PLAN_SHAPES):
        known = " and, where it carries over, ".join(_PLAN_SHAPES)
        raise _unreadable(f"yearly_plans.{name} = {repr(plan)[:200]} is not a table with {known}")
    try:
        return YearlyPlan(**{key: checked(value, _PLAN_SHAPES[key]) for key, value in plan.items()})
    except ValueError as error:
        raise _unreadable(f"yearly_plans.{name}: {error}") from None


@dataclass(frozen=True)
class Case:
    """What the checks look at; all of it is public.

    Args:
      standalone_epsilon: ε of all rounds by themselves at the population's δ.
      researcher: who asks.
    """

    plan: Plan
    published: Published
    standalone_epsilon: float
    researcher: str


@dataclass(frozen=True)
class Outcome:
    """One check: its title, whether it passed, and a sentence that says why."""

    title: str
    passed: bool
    message: str


CheckFunction = Callable[[Rules, Case], str]
CHECKS: list[tuple[str, CheckFunction]] = []
"""Every check under its title, in the order in which they are listed."""


def check(title: str) -> Callable[[CheckFunction], CheckFunction]:
    """Make a function one of `CHECKS`. It returns why it passes, or raises `RuleBroken`; it changes nothing."""

    def add(function: CheckFunction) -> CheckFunction:
        CHECKS.append((title, function))
        return function

    return add


def outcomes(
    rules: Rules, plan: Plan, published: Published, standalone_epsilon: float, researcher: str
) -> tuple[Outcome, ...]:
    """Every check of a plan with its result, failed ones included."""
    case = Case(plan, published, standalone_epsilon, researcher)
    return tuple(_outcome(title, function, rules, case) for title, function in CHECKS)


def _outcome(title: str, function: CheckFunction, rules: Rules, case: Case) -> Outcome:
    try:
        return Outcome(title, True, function(rules, case))
    except DatasiteError as error:
        return Outcome(title, False, error.public_message)


def plans_outcome(rules: Rules, populations: tuple[str, ...]) -> Outcome | None:
    """A check that fails where a yearly plan is of no population that is here, as by a slip; else None."""
    unknown = sorted(set(rules.yearly_plans) - set(populations))
    if not unknown:
        return None
    names = ", ".join(repr(name[:80]) for name in unknown)
    why = _unreadable(f"yearly_plans names {names}, and no population here is called so")
    return Outcome("Yearly plan", False, why.public_message)


def isolation_outcome(setting: str, protections: dict[str, bool]) -> Outcome:
    """Whether jobs on this host are held as the setting `isolation` requires, as a check among the others."""
    missing = [name.replace("_", " ") for name, holds in protections.items() if not holds]
    if not missing:
        text = f"all {len(protections)} protections hold for jobs on this host"
    else:
        text = f"missing on this host: {', '.join(missing)}"
    return Outcome("Isolation", not missing or setting == "reported" or missing == ["own user"], text)


# -- the checks --------------------------------------------------------------------------------------------------------


@check("Kind of computation")
def check_mechanism(rules: Rules, case: Case) -> str:
    kind = case.plan.mechanism.kind
    if kind not in rules.allowed_mechanisms:
        allowed = ", ".join(rules.allowed_mechanisms) or "nothing"
        raise RuleBroken(f"{kind} is not allowed here; allowed is {allowed}. Ask for that, or ask the owner.")
    return f"{kind} is allowed"


@check("Privacy loss of the request")
def check_epsilon(rules: Rules, case: Case) -> str:
    epsilon = case.standalone_epsilon
    if not epsilon <= rules.max_epsilon:
        instead = "Ask for a smaller ε."
        shared = shared_of(case.plan.mechanism)
        if shared is not None and shared.epsilons_in_all[0] <= rules.max_epsilon:
            less = ", and a smaller ε hardly lowers it. Ask for fewer statistics, subgroups or rounds at once"
            if isinstance(case.plan.mechanism, DPSGD):
                less = ". Ask for a smaller ε or fewer rounds"
            instead = (
                f"It is what one hospital's part of a shared noise leaves{less}, or with secure_aggregation=True, which"
                f" charges ε = {shown(shared.epsilons_in_all[0])}."
            )
        raise RuleBroken(
            f"ε={rounded_up(epsilon)} for all rounds is above {written(rules.max_epsilon)}. {instead}",
            value=epsilon,
            bound=rules.max_epsilon,
        )
    return f"ε is {rounded_up(epsilon)} for all rounds; at most {written(rules.max_epsilon)} is allowed"


@check("Chance of failure")
def check_delta(rules: Rules, case: Case) -> str:
    mechanism = case.plan.mechanism
    if not isinstance(mechanism, Gaussian):
        return "the request is pure: it has no δ"
    bound = min(rules.max_delta, rules.delta_per_patient / max(1, case.published.patients))
    if mechanism.delta > bound:
        raise RuleBroken(
            f"δ={written(mechanism.delta)} is above {written(bound, digits=3)}, the largest for"
            f" {case.published.patients:,} patients. "
            f"Ask with delta={written(_rounded_down(bound))}.",
            value=mechanism.delta,
            bound=bound,
        )
    return f"δ is {written(mechanism.delta)}; at most {written(bound, digits=3)} is allowed for this many patients"


@check("Noise")
def check_noise(rules: Rules, case: Case) -> str:
    mechanism = case.plan.mechanism
    if not isinstance(mechanism, DPSGD):
        return "follows from ε alone"
    noise = mechanism.noise_multiplier or 0.0
    if noise < rules.min_noise_multiplier:
        raise RuleBroken(
            f"noise_multiplier={written(noise)} is below {written(rules.min_noise_multiplier)}. Ask for a smaller ε,"
            " fewer patients at each step, or fewer steps with more noise.",
            value=noise,
            bound=rules.min_noise_multiplier,
        )
    return f"the noise multiplier is {written(noise)}; at least {written(rules.min_noise_multiplier)} is asked for"


@check("Patients in a step")
def check_batch(rules: Rules, case: Case) -> str:
    mechanism = case.plan.mechanism
    if not isinstance(mechanism, DPSGD):
        return "nothing is trained"
    patients = case.published.training_patients
    batch = mechanism.sampling_rate * patients
    if batch < rules.min_batch:
        enough = min(1.0, math.ceil(1000 * rules.min_batch / patients) / 1000)
        raise RuleBroken(
            f"A step looks at {written(batch, digits=3)} patients on average, below {written(rules.min_batch)}. Ask"
            f" with sampling_rate={written(enough)} or more.",
            value=batch,
            bound=rules.min_batch,
        )
    return f"{written(batch, digits=3)} on average; at least {written(rules.min_batch)} is asked for"


@check("Number of releases")
def check_rounds(rules: Rules, case: Case) -> str:
    return _at_most("round", "rounds", case.plan.rounds, rules.max_rounds)


@check("Training steps")
def check_steps(rules: Rules, case: Case) -> str:
    mechanism = case.plan.mechanism
    if not isinstance(mechanism, DPSGD):
        return "nothing is trained"
    return _at_most(
        "step over all rounds", "steps over all rounds", mechanism.steps * mechanism.rounds, rules.max_steps
    )


@check("Size of the model")
def check_parameters(rules: Rules, case: Case) -> str:
    if case.plan.graph is None:
        return "there is no model"
    return _at_most("parameter", "parameters", case.plan.graph.parameter_count, rules.max_parameters)


@check("Patients in the dataset")
def check_patients(rules: Rules, case: Case) -> str:
    patients = case.published.patients
    if patients < rules.min_patients:
        raise RuleBroken(
            f"{case.published.name} has {patients:,} patients as published, below {rules.min_patients:,}. Ask for "
            "another dataset.",
            value=patients,
            bound=rules.min_patients,
        )
    return f"{patients:,} as published; at least {rules.min_patients:,} are asked for"


def _at_most(one: str, many: str, value: int, bound: int) -> str:
    what = counted(value, one, many)
    if value > bound:
        raise RuleBroken(f"{what} are above {bound:,}. Ask for {bound:,} or fewer.", value=value, bound=bound)
    return f"{what}; at most {bound:,} are allowed"


def _rounded_down(bound: float) -> float:
    """The power of ten at or below `bound`: what people write for δ."""
    return float(f"1e{math.floor(math.log10(bound))}")


def _unreadable(what: str) -> RuleBroken:
    return RuleBroken(f"The owner's policy.toml cannot be used: {what}. Nothing is approved until the owner mends it.")
