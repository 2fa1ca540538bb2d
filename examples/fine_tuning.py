"""Fine-tune the head of a public body on images that three hospitals hold, and train the same model from nothing.

    NETWORK=network.toml python examples/fine_tuning.py

The body learns from 597 pictures of digits that are public, on this machine; once from all of them, and once from those
of 0 to 4 alone, so that half of what the head is to read was never seen. The hospitals' pictures (`digit_images.py`)
are others. A head of 650 numbers is all that is trained there, and all that gets noise. Every study has the same ε, and
settings of its own: from nothing, those that did best of twelve in simulation.
"""

import os

import torch
from digit_images import pictures
from torch import nn

import researcher

HEAD = {"rounds": 2, "steps": 30, "sampling_rate": 0.1, "learning_rate": 1.0}
WHOLE = {"rounds": 4, "steps": 30, "sampling_rate": 0.3, "learning_rate": 0.07}


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 64),
            nn.Tanh(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x))


def pretrained(classes: int = 10) -> dict[str, torch.Tensor]:
    """The body's weights after it has learnt from public pictures of the first so many digits."""
    images, labels = pictures(public=True)
    inputs = torch.tensor(images[labels < classes] / 127.5 - 1, dtype=torch.float32)[
        :, None
    ]  # as hospitals scale theirs
    targets = torch.tensor(labels[labels < classes])
    torch.manual_seed(0)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(400):
        rows = torch.randint(0, len(targets), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return {name: value for name, value in model.state_dict().items() if name.startswith("body.")}


def study(name: str, network: researcher.Network, settings: dict, **parts: object) -> researcher.Study:
    return researcher.Study(
        name,
        network.dataset("digits"),
        Digits,
        researcher.Training(
            loss="cross_entropy",
            inputs="image",
            clipping_norm=1.0,
            epsilon=1.0,
            **settings,
        ),
        evaluation=researcher.Evaluation(epsilon=1.0, bins=2),
        purpose="To read handwritten digits.",
        **parts,
    )


if __name__ == "__main__":
    network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
    for title, made in (
        ("from nothing", study("digits-from-nothing", network, WHOLE)),
        ("on a body that saw 0 to 4", study("digits-five", network, HEAD, weights=pretrained(5), frozen="body.*")),
        ("on a body that saw all ten", study("digits-head", network, HEAD, weights=pretrained(), frozen="body.*")),
    ):
        made.submit()
        made.wait_for_approval()
        result = made.run()
        trained = sum(values.size for values in result.weights.values())
        print(f"{title}: {trained:,} numbers trained, accuracy {result.evaluate().accuracy()['combined'].estimate}")
    print(f"Saved {result.save('digits-head.safetensors')} and {result.save('digits-head.onnx')}.")
