# tries: Enter a user namespace, where one is root again.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if ctypes.CDLL(None).unshare(0x10000000) == 0:
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
