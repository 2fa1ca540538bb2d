# tries: Read what every process was started with.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if any(open(f"/proc/{each}/cmdline").read() for each in os.listdir("/proc") if each.isdigit()):
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
