"""What a demonstration shows, as plain values; `compose.demo` runs it, `synthetic` and `real` beside it make one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from compose import study
from compose.baseline import Floats, Population
from policies.privacy.mechanisms import KaplanMeier, Regression


@dataclass(frozen=True)
class Site:
    """One hospital's part: its names, its table as a CSV file, and its schema."""

    name: str
    title: str
    table: Path
    schema: Path


@dataclass(frozen=True)
class Demonstration:
    """What is shown: who takes part, what is trained, and what the script knows to judge it by.

    Args:
      common: the common test population.
      pooled: all hospitals' records, for the model without privacy.
      epsilon: of all rounds of a training together, at each hospital; settings are what is suggested for it.
      evaluation_epsilon, statistics_epsilon: pure ε of each such request.
      secure_aggregation: whether the joint model's weights are read in their mean, and its scores in their sum, alone.
      bins: of a score histogram; fewer where patients are few.
      statistic: the column whose mean is asked, with what to call it.
      histogram: the column whose histogram is asked.
      survival, regression: what else is asked, or nothing; `survival_title` is what the curve shows.
      true_survival: of each group of `survival`, the share at each time of its grid, without privacy.
    """

    title: str
    name: str
    dataset: str
    model: type[nn.Module]
    sites: Sequence[Site]
    common: Population
    pooled: Population
    statistic: tuple[str, str]
    histogram: str
    synthetic: bool
    purpose: str
    epsilon: float = study.TRAINING_EPSILON
    evaluation_epsilon: float = study.EVALUATION_EPSILON
    statistics_epsilon: float = study.STATISTICS_EPSILON
    bins: int = study.EVALUATION_BINS
    survival: KaplanMeier | None = None
    survival_title: str = ""
    regression: Regression | None = None
    true_survival: Mapping[str, Floats] = field(default_factory=dict)
    secure_aggregation: bool = False
