# tries: Run a command by the C library.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        ctypes.CDLL(None).system(b"touch " + MADE_FILE.encode())

    def forward(self, x):
        return self.a(x)
