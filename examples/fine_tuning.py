"""Fine-tune the head of a public body, and train the same model from nothing: what each comes to at the same ε.

    NETWORK=network.toml python examples/fine_tuning.py

The body learns from 600 pictures of digits that are public, on this machine. The hospital's pictures (`digits`, written
by `examples/public_tables.py`) are others. A head of 330 numbers is all that is trained there, and all that gets noise.
"""

import os

import torch
from sklearn.datasets import load_digits
from torch import nn

import researcher

PUBLIC = 600  # the first pictures of scikit-learn's digits; the hospital has the others


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.Tanh())
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.body(x))


def pretrained() -> dict[str, torch.Tensor]:
    """The body's weights after it has learnt from public pictures, scaled as hospitals scale theirs: to [-1, 1]."""
    pictures, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(pictures[:PUBLIC] / 8 - 1, dtype=torch.float32)
    targets = torch.tensor(labels[:PUBLIC])
    torch.manual_seed(0)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(400):
        rows = torch.randint(0, PUBLIC, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return {name: value for name, value in model.state_dict().items() if name.startswith("body.")}


def study(name: str, network: researcher.Network, **parts: object) -> researcher.Study:
    return researcher.Study(
        name,
        network.dataset("digits"),
        Digits,
        researcher.Training(
            loss="cross_entropy",
            rounds=2,
            steps=30,
            sampling_rate=0.1,
            clipping_norm=1.0,
            learning_rate=1.0,
            epsilon=1.0,
        ),
        evaluation=researcher.Evaluation(epsilon=1.0, bins=2),
        purpose="To read digits.",
        **parts,
    )


if __name__ == "__main__":
    network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
    for title, made in (
        ("from nothing", study("digits-from-nothing", network)),
        ("head of a public body", study("digits-head", network, weights=pretrained(), frozen="body.*")),
    ):
        made.submit()
        made.wait_for_approval()
        result = made.run()
        trained = sum(values.size for values in result.weights.values())
        print(f"{title}: {trained:,} numbers trained, accuracy {result.evaluate().accuracy()['combined'].estimate}")
        result.save(f"{made.name}.safetensors")
        print(f"saved {made.name}.safetensors")
