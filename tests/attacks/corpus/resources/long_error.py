# tries: Fail with an error of twenty megabytes.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError("x" * (20 << 20) + DONE)

    def forward(self, x):
        return self.a(x)
