# tries: Show a list that is nested a million times, with the bound on recursion taken away.
# must: inspection import
import sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        sys.setrecursionlimit(10**9)
        nested = []
        for _ in range(1_000_000):
            nested = [nested]
        str(nested)

    def forward(self, x):
        return self.a(x)
