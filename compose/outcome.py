"""From a demonstration's results to its report: true AUCs, what each hospital paid, certificates verified and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from compose import baseline
from compose.analyses import regression_report, survival_report
from compose.demonstration import Demonstration, Site
from compose.masked import read_alone
from compose.study import COUNT_EPSILON
from policies.release.certificates import verify
from policies.release.tensors import to_bytes
from researcher.cohort import Cohort
from researcher.estimates import Estimate
from researcher.parameters import load_parameters
from researcher.regression import RegressionResult
from researcher.results import Result
from researcher.secure_sums import mean_of
from researcher.state import Release
from researcher.statistics import StatisticsResult
from researcher.survival import SurvivalResult


@dataclass(frozen=True)
class Found:
    """What the studies gave: the joint result, each hospital's own, the statistics; and the model without privacy.

    `survival` and `regression` are there where the demonstration asks for them.
    """

    joint: Result
    local: Mapping[str, Result]
    statistics: StatisticsResult
    pooled: nn.Module
    survival: SurvivalResult | None = None
    regression: RegressionResult | None = None


def report_of(
    shown: Demonstration,
    cohort: Cohort,
    found: Found,
    directory: Path,
    *,
    seconds: float,
) -> dict[str, Any]:
    """The report, JSON-ready; see `compose.report`. Certificates and releases go below `directory/certificates`."""
    by_round = [baseline.auc(_model(shown.model, weights), shown.common) for weights in rounds_of(found.joint, cohort)]
    joint = found.joint.to_model()
    local = {name: baseline.auc(each.to_model(), shown.common) for name, each in found.local.items()}
    joint_auc = baseline.auc(joint, shown.common)
    budgets = cohort.budget
    return {
        "schema_version": 1,
        "title": shown.title,
        "synthetic": shown.synthetic,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": {"name": shown.name, "model": shown.model.__name__, "epsilon": shown.epsilon},
        "hospitals": [
            {
                **_hospital(each, cohort, budgets[each.name], found, shown.statistic[1]),
                "auc_local_private": local[each.name],
                "auc_joint_private": joint_auc,
            }
            for each in shown.sites
        ],
        "rounds": len(found.joint.rounds),
        "averaged": len(found.joint.averaged),
        "missing": [
            {"hospital": name, "round": number}
            for name, rounds in found.joint.missing.items()
            for number in rounds
        ],
        "auc": {
            "joint_private": joint_auc,
            "pooled_not_private": baseline.auc(found.pooled, shown.common),
            "local_private_mean": float(np.mean(list(local.values()))),
            "joint_by_round": by_round,
        },
        "roc": _curves(shown, found, joint),
        "charged_for": [
            {"what": "size", "epsilon": COUNT_EPSILON},
            {"what": "joint training", "epsilon": shown.epsilon},
            {"what": "its evaluation", "epsilon": shown.evaluation_epsilon},
            {"what": "local baseline", "epsilon": shown.epsilon},
            {"what": "its evaluation", "epsilon": shown.evaluation_epsilon},
            {"what": "statistics", "epsilon": shown.statistics_epsilon},
            *({"what": "survival", "epsilon": asked.epsilon} for asked in (shown.survival,) if asked),
            *({"what": "a regression", "epsilon": asked.epsilon} for asked in (shown.regression,) if asked),
        ],
        "survival": survival_report(found.survival, shown.survival_title, shown.true_survival)
        if found.survival
        else None,
        "regression": regression_report(found.regression) if found.regression else None,
        "read_alone": read_alone(shown, found.joint),
        "certificates": keep_certificates(_releases(found), cohort, directory),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def rounds_of(result: Result, cohort: Cohort) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The joint weights after each round, made of the releases again as the study's strategy did.

    They are the hospitals' average by public size, and with FedAvgM the momentum of its moves.
    """
    study = result.study
    assert study is not None
    sizes, rounds = cohort.training_patients, []
    momentum = float(study.state.read("run")["strategy"]["options"].get("server_momentum", 0.0))
    weights = {name: value.detach().numpy() for name, value in study.new_model().named_parameters()}
    moves = {name: np.zeros_like(value) for name, value in weights.items()}
    for closed in result.rounds:
        parts = [each for each in result.releases if each.role == "training" and each.round == closed.round]
        parts = [each for each in parts if each.hospital in closed.answered]
        total = sum(sizes[each.hospital] for each in parts)
        mean = mean_of(study.state, "training", closed.round)  # all that can be read of masked releases
        for name in weights:
            if mean is not None:
                average = mean[name]
            else:
                average = np.sum([sizes[each.hospital] / total * each.tensors[name] for each in parts], axis=0)
            moves[name] = momentum * moves[name] + average - weights[name]
        weights = {name: value + moves[name] for name, value in weights.items()}
        rounds.append(weights)
    return rounds


def keep_certificates(releases: Sequence[tuple[str, Release]], cohort: Cohort, directory: Path) -> list[dict[str, Any]]:
    """Verify every certificate against its release and its hospital's public key; write both; what the report lists.

    Raises:
      CertificateRefused: one does not verify.
    """
    kept = []
    for study, each in releases:
        content, key = to_bytes(each.tensors), cohort.network.descriptions[each.hospital]["public_key"]
        verify(each.certificate, public_key=key, release=content)
        stem = directory / "certificates" / study / each.stem
        stem.parent.mkdir(parents=True, exist_ok=True)
        path = stem.with_name(f"{stem.name}.certificate.json")
        path.write_text(each.certificate, encoding="utf-8")
        stem.with_name(f"{stem.name}.safetensors").write_bytes(content)
        kept.append(
            {
                "hospital": each.hospital,
                "role": each.role,
                "study": study,
                "round": each.round,
                "file": str(path.relative_to(directory)),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    return kept


def _hospital(site: Site, cohort: Cohort, budget: Mapping[str, Any], found: Found, what: str) -> dict[str, Any]:
    published = cohort.members[site.name].published
    evaluation = found.joint.evaluation
    assert evaluation is not None
    in_sums = evaluation.mechanism.secure_aggregation is not None
    released = evaluation.auc["combined" if in_sums else site.name]
    own = found.local[site.name].evaluation
    return {
        "name": site.name,
        "title": site.title,
        "patients_published": published.patients,
        "size_kind": published.size_kind,
        "epsilon_budget": budget["epsilon"],
        "epsilon_spent": budget["epsilon_spent"],
        "delta": budget["delta"],
        "order": budget["order"],
        "releases": sum(each.hospital == site.name for _, each in _releases(found)),
        "auc_released": released.value,
        "auc_released_error": released.error,
        "auc_released_note": f"{released.value:.3f} ± {released.error:.3f}, of all" if in_sums else released.note,
        "auc_local_released": own.auc[site.name].value if own else None,
        "statistic": _statistic(found.statistics, site.name, what),
    }


def _statistic(statistics: StatisticsResult, hospital: str, what: str) -> dict[str, Any]:
    """The mean that was asked for, with its 95 % interval."""
    value = next(each for key, each in statistics.hospitals[hospital].items() if key.startswith("mean/"))
    assert isinstance(value, Estimate)
    low, high = value.interval
    return {"what": what, "value": value.value, "error": value.error, "low": low, "high": high, "unit": value.unit}


def _curves(shown: Demonstration, found: Found, joint: nn.Module) -> dict[str, Any]:
    evaluation = found.joint.evaluation
    assert evaluation is not None
    released = evaluation.roc()
    curves: dict[str, Any] = {
        "released": {
            "false_positive_rate": list(released.false_positive_rate),
            "true_positive_rate": list(released.true_positive_rate),
            "true_positive_error": list(released.true_positive_error),
            "auc": released.auc.value,
            "auc_error": released.auc.error,
        }
    }
    for name, model in (("true", joint), ("pooled", found.pooled)):
        false_positive, true_positive = baseline.roc(model, shown.common)
        curves[name] = {"false_positive_rate": false_positive.tolist(), "true_positive_rate": true_positive.tolist()}
    return curves


def _releases(found: Found) -> list[tuple[str, Release]]:
    """Every release that the researcher holds, with its study's name."""
    results = [found.joint, *found.local.values()]
    held = [(each.name, release) for each in results for release in each.releases]
    asked = {"statistics": found.statistics, "survival": found.survival, "regression": found.regression}
    analyses = [(name, release) for name, result in asked.items() if result for release in result.releases]
    return [*held, *analyses]


def _model(model: type[nn.Module], weights: Mapping[str, Any]) -> nn.Module:
    made = model()
    load_parameters(made, weights)
    return made.eval()
