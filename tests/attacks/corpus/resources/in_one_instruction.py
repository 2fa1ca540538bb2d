# tries: Compute for a long time in one instruction, which no signal of Python's interrupts.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        total = sum(range(300_000_000))
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
