"""What can be read of one hospital where a demonstration trains with secure aggregation."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from compose import baseline
from compose.demonstration import Demonstration
from policies.secure_sums.encoding import decoded, words_of
from researcher.parameters import load_parameters
from researcher.results import Result
from researcher.secure_sums import mean_of
from researcher.state import Tensors


def read_alone(shown: Demonstration, result: Result) -> list[dict[str, Any]]:
    """For each hospital's last masked release, the AUC of the model that it comes to when it is read by itself.

    It is read as if no mask were on it, and the mean of all beside it; nothing where releases are not masked. So are
    its scores: how many held-out patients they are of by themselves, and how many their sum is of.
    """
    declared = result.study.training.secure_aggregation if result.study is not None else None
    if result.study is None or declared is None:
        return []
    last = result.rounds[-1].round
    mean = mean_of(result.study.state, "training", last)
    assert mean is not None
    rows = []
    for release in result.releases:
        if release.role == "training" and release.round == last:
            party = declared.party_of(json.loads(release.certificate)["public_key"])
            assert party is not None
            alone = decoded(words_of(release.tensors), mean, declared, [party])
            model = shown.model()
            load_parameters(model, alone)
            rows.append({"hospital": release.hospital, "auc_alone": baseline.auc(model, shown.common)})
    scores = result.evaluation
    if scores is not None and scores.mechanism.secure_aggregation is not None:
        alone = {release.hospital: counted_alone(release.tensors) for release in scores.releases}
        in_sum = round(sum(float(np.sum(cells)) for cells in scores.summed.values()))
        rows = [{**row, "patients_alone": alone[row["hospital"]], "patients_in_sum": in_sum} for row in rows]
    return rows


def counted_alone(tensors: Tensors) -> int:
    """How many patients a masked table of scores is of, where its words are taken for counts."""
    return int(words_of(tensors).astype(np.int32).astype(np.int64).sum())
