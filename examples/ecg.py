"""Train a convolutional network on electrocardiograms of three hospitals, score it, and keep the certificates.

    NETWORK=network.toml python examples/ecg.py

`examples/ecg_signals.py` writes what the hospitals publish.
"""

import os

from torch import nn, relu

import researcher


# x is [records, 1, 400]: eight seconds at 50 Hz, -1.5 to 1.5 mV scaled to [-1, 1].
class Beats(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 16, 11, padding=5)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        return self.out(relu(self.conv(x)).amax(2))  # how much each shape is there at its best place


network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
ecg = network.dataset("ecg")
study = researcher.Study(
    "ecg",
    ecg,
    Beats,
    researcher.Training(
        loss="cross_entropy",
        inputs="ecg",
        rounds=4,
        steps=8,
        sampling_rate=0.5,
        clipping_norm=1.0,
        learning_rate=1.0,
        epsilon=4.0,
    ),
    evaluation=researcher.Evaluation(epsilon=1.0, bins=2),
    purpose="To find bundle branch block in a single lead.",
)

if __name__ == "__main__":
    print(ecg)
    print(study.check())
    study.submit()
    study.wait_for_approval()
    result = study.run()
    print(result)
    print(result.evaluate())
    print(f"Saved in {result.save('ecg')}.")
