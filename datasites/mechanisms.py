"""Stubs that a code request imports; never executed.

A request imports one of them and returns its call with literal arguments; a datasite reads that call as text and never
executes it. They are written here so that an editor can complete them and a reader can look them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from policies.errors import PermissionRefused

Columns = str | Sequence[str]


def dp_sgd(
    model: Any,
    records: Any,
    weights: Any,
    round: int,
    *,
    loss: str,
    rounds: int,
    steps: int,
    sampling_rate: float,
    clipping_norm: float,
    learning_rate: float,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    delta: float = 1e-5,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    proximal_mu: float = 0.0,
    inputs: str | tuple[str, ...] = "features",
    schedule: str = "constant",
    clipping: str = "norm",
    target: str | tuple[str, ...] | None = None,
    horizon: float | None = None,
    class_weights: tuple[float, ...] = (),
    huber_delta: float | None = None,
    frozen: tuple[str, ...] = (),
    local: tuple[str, ...] = (),
    public_weights: str = "",
    initial: str = "",
    secure_aggregation: Mapping[str, Any] | None = None,
    compression: str = "none",
) -> NoReturn:
    """Weights after one round of differentially private training: see `policies.privacy.mechanisms.DPSGD`."""
    raise PermissionRefused(_RUNS_THERE.format("dp_sgd"))


def evaluate(
    model: Any,
    records: Any,
    weights: Any,
    round: int,
    *,
    loss: str,
    epsilon: float,
    bins: int = 20,
    rounds: int = 1,
    inputs: str | tuple[str, ...] = "features",
    target: str | tuple[str, ...] | None = None,
    horizon: float | None = None,
    subgroups: tuple[str | tuple[str | float, ...], ...] = (),
    frozen: tuple[str, ...] = (),
    local: tuple[str, ...] = (),
    public_weights: str = "",
    trained_as: str = "",
    secure_aggregation: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Private tables of predictions beside what came true on the hold-out: see `mechanisms.Evaluation`."""
    raise PermissionRefused(_RUNS_THERE.format("evaluate"))


def statistics(
    records: Any,
    round: int,
    *,
    epsilon: float,
    count: bool = False,
    sum: Columns = (),
    mean: Columns = (),
    variance: Columns = (),
    histogram: Columns = (),
    quantiles: Mapping[str, Sequence[float]] | None = None,
    crosstab: Sequence[tuple[str, str]] = (),
    missing: Columns = (),
    describe: Columns = (),
    records_per_patient: int = 1,
    bins: int = 10,
    rounds: int = 1,
    where: str = "",
    group_by: Columns | Mapping[str, Sequence[float | str]] = (),
    secure_aggregation: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Private statistics of columns: see `policies.privacy.mechanisms.Statistics`."""
    raise PermissionRefused(_RUNS_THERE.format("statistics"))


def kaplan_meier(
    records: Any,
    round: int,
    *,
    time: str,
    event: str,
    epsilon: float,
    by: str | None = None,
    bins: int = 24,
    until: float | None = None,
    rounds: int = 1,
    where: str = "",
    secure_aggregation: Mapping[str, Any] | None = None,
) -> NoReturn:
    """A private table of patients by time and event, for survival curves: see `policies.privacy.survival`."""
    raise PermissionRefused(_RUNS_THERE.format("kaplan_meier"))


def regression(
    records: Any,
    round: int,
    *,
    outcome: str,
    terms: Sequence[str],
    family: str,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    delta: float = 1e-5,
    outcome_range: tuple[float, float] | None = None,
    rounds: int = 1,
    where: str = "",
    secure_aggregation: Mapping[str, Any] | None = None,
) -> NoReturn:
    """Private sums for a linear, logistic or Poisson regression: see `policies.privacy.regression`."""
    raise PermissionRefused(_RUNS_THERE.format("regression"))


_RUNS_THERE = "{} runs only on a datasite. Submit the function that returns it as a code request."
