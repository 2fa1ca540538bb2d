# tries: Read another process's processor time by a clock's number.
# must: inspection import
import time
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        time.clock_gettime((~SERVER_PID << 3) | 2)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
