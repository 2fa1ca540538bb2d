# tries: Take a copy of an open file of the datasite's.
# must: inspection import
import ctypes, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        libc = ctypes.CDLL(None)
        process = libc.syscall(434, SERVER_PID, 0)
        if process >= 0 and libc.syscall(438, process, 1, 0) >= 0:
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
