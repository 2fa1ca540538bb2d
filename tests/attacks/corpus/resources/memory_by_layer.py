# tries: Declare a layer of half a billion weights.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.b = nn.Linear(30000, 18000)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
