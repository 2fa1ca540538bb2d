# tries: Open a hundred files at once.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        opened = [os.dup(2) for _ in range(100)]
        for each in opened:
            os.close(each)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
