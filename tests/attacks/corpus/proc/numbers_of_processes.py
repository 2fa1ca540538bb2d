# tries: Count processes by the kernel's load.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if open("/proc/loadavg").read():
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
