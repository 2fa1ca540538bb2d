"""Predict a number: how far diabetes progressed in a year, from ten measurements, at every hospital of a network file.

    NETWORK=network.toml python examples/number.py

`examples/public_tables.py` writes the table that a hospital publishes for it.
"""

import os

from torch import nn

import researcher


# The target is scaled to [-1, 1] by its declared bounds, so the last layer gives a plain number: no relu, no sigmoid.
class Progression(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 1)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x):
        return self.layer(x)


network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
study = researcher.Study(
    "progression",
    network.dataset("diabetes"),
    Progression,
    researcher.Training(
        loss="mean_squared_error",
        rounds=1,
        steps=60,
        sampling_rate=0.5,
        clipping_norm=1.0,
        learning_rate=0.2,
        epsilon=2.0,
    ),
    # One table over all held-out patients and one by sex: each has half of this ε.
    evaluation=researcher.Evaluation(epsilon=2.0, bins=8, subgroups=("sex",)),
    purpose="To predict how far diabetes progresses in a year.",
)

if __name__ == "__main__":
    print(study.check())
    study.submit()
    study.wait_for_approval()
    result = study.run()
    evaluation = result.evaluate()
    print(evaluation)  # MAE, RMSE, R² with 95 % intervals, for all and by sex
    evaluation.to_frame().to_csv("progression.csv", index=False)
    evaluation.plot().savefig("progression.png")
    print(f"R² {evaluation.r2['combined']}")
