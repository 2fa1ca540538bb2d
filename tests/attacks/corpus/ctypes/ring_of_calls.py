# tries: Ask the kernel for a ring of calls, which filters of calls do not see into.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        parameters = (ctypes.c_uint32 * 30)()
        if ctypes.CDLL(None).syscall(425, 4, ctypes.byref(parameters)) >= 0:
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
