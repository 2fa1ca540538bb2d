# tries: Point the C library's resolver at a server and ask it.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        libc = ctypes.CDLL(None)
        s = libc.socket(2, 2, 0)
        address = b"\2\0" + UDP_PORT.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
        libc.sendto(s, b"\0\1\1\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", 19, 0, address, 16)

    def forward(self, x):
        return self.a(x)
