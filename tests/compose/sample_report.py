"""A report as the demonstration makes it, with figures of a tuning run."""

from __future__ import annotations

import math
from typing import Any


def sample_report() -> dict[str, Any]:
    """Three hospitals, five rounds; every optional part present."""
    grid = [step / 20 for step in range(21)]
    hospitals = [
        ("general", "General hospital", 8003, 0.858, 0.861, 36.9),
        ("paediatric", "Children's hospital", 6996, 0.853, 0.842, 37.7),
        ("rural", "Rural hospital", 6010, 0.851, 0.884, 36.8),
    ]
    return {
        "schema_version": 1,
        "title": "Three hospitals train FluPredictor together",
        "synthetic": True,
        "study": {"name": "flu-2026", "epsilon": 2.0},
        "hospitals": [
            {
                "name": name, "title": title, "patients_published": patients, "size_kind": "dp-count",
                "epsilon_budget": 6.0, "epsilon_spent": 3.61, "delta": 1e-5, "order": 8, "releases": 14,
                "auc_local_private": local, "auc_joint_private": 0.868, "auc_released": released,
                "auc_released_error": 0.011,
                "statistic": {"what": "mean temperature at the visit", "value": mean, "error": 0.04, "low": mean - 0.1,
                              "high": mean + 0.1, "unit": "°C"},
            }
            for name, title, patients, local, released, mean in hospitals
        ],
        "rounds": 5,
        "auc": {"joint_private": 0.868, "pooled_not_private": 0.879, "local_private_mean": 0.855,
                "joint_by_round": [0.801, 0.846, 0.859, 0.865, 0.868]},
        "roc": {
            "released": {"false_positive_rate": grid, "true_positive_rate": [x**0.27 for x in grid],
                         "true_positive_error": [0.012 if 0 < x < 1 else 0.0 for x in grid]},
            "true": {"false_positive_rate": grid, "true_positive_rate": [x**0.25 for x in grid]},
            "pooled": {"false_positive_rate": grid, "true_positive_rate": [x**0.23 for x in grid]},
        },
        "charged_for": [{"what": "size", "epsilon": 0.1}, {"what": "joint training", "epsilon": 2.0},
                        {"what": "local baseline", "epsilon": 2.0}],
        "survival": {
            "title": "How long patients stay away", "event": "returned", "by": "influenza", "time": "days_away (days)",
            "until": 14.0, "exact": True, "test": "log-rank χ²(1) = 179, p = 8.6e-41",
            "groups": [
                {"label": label, "times": [0.0, 0.0, 7.0, 14.0], "share": [1.0, 0.95, 0.3 * far, 0.05 * far],
                 "low": [1.0, 0.94, 0.25 * far, 0.02 * far], "high": [1.0, 0.97, 0.36 * far, 0.08 * far],
                 "true": [1.0, 0.955, 0.31 * far, 0.04 * far], "median": f"{far} days (95 % from 2 to 5)"}
                for label, far in (("no", 1), ("yes", 2))
            ],
        },
        "regression": {
            "outcome": "influenza", "terms": ["cough", "vaccinated"], "ratio": "odds ratio",
            "coefficients": [{"name": "cough", "value": 3.07, "low": 2.63, "high": 3.57},
                             {"name": "vaccinated", "value": 0.516, "low": 0.446, "high": 0.597}],
        },
        "seconds": 71.4,
        "certificates": [
            {"hospital": name, "role": "training", "round": number, "sha256": f"{math.prod((number, 7**20)):064x}",
             "file": f"certificates/training-{name}-{number:03d}.certificate.json"}
            for name, *_ in hospitals for number in range(1, 6)
        ],
    }  # fmt: skip
