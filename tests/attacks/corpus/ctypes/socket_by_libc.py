# tries: Connect by calls of the C library.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        libc = ctypes.CDLL(None)
        address = b"\2\0" + TCP_PORT.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
        libc.connect(libc.socket(2, 1, 0), address, 16)

    def forward(self, x):
        return self.a(x)
