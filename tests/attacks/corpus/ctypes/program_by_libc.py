# tries: Make a file by a number of the system call alone.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        ctypes.CDLL(None).syscall(85, MADE_FILE.encode(), 0o644)

    def forward(self, x):
        return self.a(x)
