# tries: Compute a power with millions of digits.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        n = 7 ** 40_000_000
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
