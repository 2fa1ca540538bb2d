# tries: Open one's own files again by their numbers.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if os.listdir("/proc/self/fd"):
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
