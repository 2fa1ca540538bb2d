"""The researcher's side: several hospitals' datasites addressed as one.

    network = researcher.connect("network.toml")
    flu = network.dataset("flu")
    study = researcher.Study("flu-2026", flu, FluPredictor, researcher.Training(...))
    study.check(); study.submit(); study.wait_for_approval()
    result = study.run(strategy="FedAvg")

Importing this package imports neither syft nor torch, Flower or pandas: each name below is loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from researcher.cohort import Cohort
    from researcher.curves import LearningCurve, no_better, reached
    from researcher.devices.report import DeviceReport
    from researcher.lora import LoRALinear
    from researcher.network import Network, connect
    from researcher.results import Result, load
    from researcher.shared_noise import SharedNoise
    from researcher.simulation import simulate
    from researcher.statistics import StatisticsStudy
    from researcher.studies import Evaluation, Study
    from researcher.training import Training
    from researcher.tuning import Tuning

    __version__: str

__all__ = [
    "Cohort",
    "DeviceReport",
    "Evaluation",
    "LearningCurve",
    "LoRALinear",
    "Network",
    "Result",
    "SharedNoise",
    "StatisticsStudy",
    "Study",
    "Training",
    "Tuning",
    "connect",
    "load",
    "no_better",
    "reached",
    "simulate",
]

_HOMES = {
    "Cohort": ("researcher.cohort", "Cohort"),
    "DeviceReport": ("researcher.devices.report", "DeviceReport"),
    "Evaluation": ("researcher.studies", "Evaluation"),
    "LearningCurve": ("researcher.curves", "LearningCurve"),
    "LoRALinear": ("researcher.lora", "LoRALinear"),
    "Network": ("researcher.network", "Network"),
    "Result": ("researcher.results", "Result"),
    "SharedNoise": ("researcher.shared_noise", "SharedNoise"),
    "StatisticsStudy": ("researcher.statistics", "StatisticsStudy"),
    "Study": ("researcher.studies", "Study"),
    "Training": ("researcher.training", "Training"),
    "Tuning": ("researcher.tuning", "Tuning"),
    "connect": ("researcher.network", "connect"),
    "load": ("researcher.results", "load"),
    "no_better": ("researcher.curves", "no_better"),
    "reached": ("researcher.curves", "reached"),
    "simulate": ("researcher.simulation", "simulate"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("private-datasites")
    if name not in _HOMES:
        raise AttributeError(f"module 'researcher' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
