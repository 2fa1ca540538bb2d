"""Predict a time with an event: recurrence of breast cancer or death within five years, with censored patients.

    NETWORK=network.toml python examples/survival.py

`examples/public_tables.py` writes the table that a hospital publishes for it.
"""

import os

from torch import nn

import researcher


# One logit for each of five equal intervals up to the horizon of 1800 days: the chance of the event there, for who has
# reached it. Cox's partial likelihood compares patients with each other, so no patient's part in it could be clipped.
class Recurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 5)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x):
        return self.layer(x)


network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
study = researcher.Study(
    "recurrence",
    network.dataset("breast_cancer"),
    Recurrence,
    researcher.Training(
        loss="discrete_hazards",
        rounds=1,
        steps=100,
        sampling_rate=0.5,
        clipping_norm=2.0,
        learning_rate=0.3,
        epsilon=2.0,
    ),
    evaluation=researcher.Evaluation(epsilon=2.0, bins=8),
    purpose="To predict recurrence within five years.",
)

if __name__ == "__main__":
    print(study.check())
    study.submit()
    study.wait_for_approval()
    result = study.run()
    evaluation = result.evaluate()
    print(evaluation)  # concordance and integrated Brier score, beside that of the survival curve without a model
    print(evaluation.calibration())
    print(f"concordance {evaluation.concordance['combined']}")
