# tries: Ask for the kernel's own store of keys, which namespaces do not hide.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if ctypes.CDLL(None).syscall(250, 0, -3, 0) > 0:
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
