"""What can be read of one hospital where a demonstration trains with secure aggregation."""

from __future__ import annotations

import json
from typing import Any

from compose import baseline
from compose.demonstration import Demonstration
from policies.secure_sums.encoding import decoded, words_of
from researcher.parameters import load_parameters
from researcher.results import Result
from researcher.secure_sums import mean_of


def read_alone(shown: Demonstration, result: Result) -> list[dict[str, Any]]:
    """For each hospital's last masked release, the AUC of the model that it comes to when it is read by itself.

    It is read as if no mask were on it, and the mean of all beside it; nothing where releases are not masked.
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
    return rows
