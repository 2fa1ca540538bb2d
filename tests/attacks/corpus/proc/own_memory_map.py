# tries: Read where this process has its memory.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if open("/proc/self/maps").read():
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
