"""Train a small convolutional network on images that three hospitals hold, score it, and keep the certificates.

    NETWORK=network.toml python examples/digits.py

`examples/digit_images.py` writes what the hospitals publish.
"""

import os

from torch import nn, relu

import researcher


# x is [records, 1, 8, 8], each image scaled to [-1, 1] by its declared bounds: ordinary convolutions, no BatchNorm.
class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.pool, self.out = nn.MaxPool2d(2), nn.Linear(16 * 4 * 4, 10)

    def forward(self, x):
        return self.out(self.pool(relu(self.norm(self.conv(x)))).flatten(1))


network = researcher.connect(os.environ.get("NETWORK", "network.toml"))
digits = network.dataset("digits")
study = researcher.Study(
    "digits",
    digits,
    Digits,
    researcher.Training(
        loss="cross_entropy",
        inputs="image",  # the tensor, where "features" would be the columns
        rounds=8,
        steps=8,
        sampling_rate=0.5,
        clipping_norm=1.0,
        learning_rate=1.0,
        epsilon=4.0,
    ),
    evaluation=researcher.Evaluation(epsilon=1.0, bins=2),
    purpose="To read handwritten digits.",
)

if __name__ == "__main__":
    print(digits)
    print(digits.mock.head(3))  # made-up images of the declared shape; a notebook shows them as pictures
    print(study.check())
    study.submit()
    study.wait_for_approval()
    result = study.run()
    print(result)
    print(result.evaluate())
    print(f"Saved in {result.save('digits')}.")
