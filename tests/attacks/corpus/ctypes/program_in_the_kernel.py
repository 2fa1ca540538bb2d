# tries: Load a program into the kernel.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if ctypes.CDLL(None).syscall(321, 0, (ctypes.c_uint32 * 18)(1, 4, 4, 1), 72) >= 0:
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
