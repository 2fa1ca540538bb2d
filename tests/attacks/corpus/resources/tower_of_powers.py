# tries: Hold a processor with a number of ten billion digits, by a quote that costs nothing.
# must: inspection size
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.n = len([10**10**10])

    def forward(self, x):
        return self.a(x)
