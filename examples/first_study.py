"""A first study: train one model at every hospital of a network file, score it, and keep what came back.

    NETWORK=network.toml python examples/first_study.py

The same file serves a shell: `researcher check examples/first_study.py`, then `submit`, `wait`, `run`, `evaluate`.
"""

import os

from torch import nn, relu, sigmoid

import researcher


# The hospitals read this class as you wrote it. It may use what works on one record alone: no BatchNorm.
class FluPredictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(10, 32), nn.Linear(32, 1)  # print(flu) says that there are 10 inputs

    def forward(self, x):
        return sigmoid(self.layer2(relu(self.layer1(x))))


network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
flu = network.dataset("flu")

# ε is for all rounds together, at each hospital; the noise follows from it. Large batches and few steps keep more of
# the signal, because noise is divided by the batch.
training = researcher.Training(
    loss="binary_cross_entropy",
    rounds=2,
    steps=20,
    sampling_rate=0.1,
    clipping_norm=4.0,
    learning_rate=0.35,
    epsilon=1.0,
)
study = researcher.Study(
    "first-study",
    flu,
    FluPredictor,
    training,
    evaluation=researcher.Evaluation(epsilon=0.2),
    purpose="To learn how this works.",  # the owners read it
)

if __name__ == "__main__":
    print(flu)  # public facts: schema, published sizes, budget left
    print(study.check())  # what the owners will see, and what it would cost; asks for nothing
    print(study.submit())
    print(study.wait_for_approval())
    result = study.run("FedAvg")  # interrupted? Run this file again: nothing is paid for twice.
    print(result)
    print(result.evaluate())  # from noisy histograms of the scores of held-out patients
    print(f"Saved in {result.save('first-study')}: weights, releases, and a certificate of each.")
