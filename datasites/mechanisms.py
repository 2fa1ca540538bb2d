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
) -> NoReturn:
    """A private histogram of a model's scores per class on the hold-out: see `mechanisms.Evaluation`."""
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
    records_per_patient: int = 1,
    bins: int = 10,
    rounds: int = 1,
) -> NoReturn:
    """Private statistics of columns: see `policies.privacy.mechanisms.Statistics`."""
    raise PermissionRefused(_RUNS_THERE.format("statistics"))


_RUNS_THERE = "{} runs only on a datasite. Submit the function that returns it as a code request."
