# tries: Read who is connected to whom.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if open("/proc/net/tcp").read():
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
