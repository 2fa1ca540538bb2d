# tries: Ask to handle page faults, as exploits of the kernel like to.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if ctypes.CDLL(None).syscall(323, 1) >= 0:
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
