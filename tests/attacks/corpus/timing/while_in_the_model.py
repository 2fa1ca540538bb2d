# tries: Loop until a record's value is small.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        while x.abs().sum() > 1e-3:
            x = x / 2
            print(DONE)
        return self.a(x)
