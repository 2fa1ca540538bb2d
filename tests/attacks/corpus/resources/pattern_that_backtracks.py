# tries: Match a pattern that tries every split.
# must: inspection import
import re
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        re.match(r"(a+)+$", "a" * 28 + "b")
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
