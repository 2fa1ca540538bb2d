# tries: Ask the C library for a variable.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_char_p
        raise ValueError(libc.getenv(SECRET_NAME.encode()).decode())

    def forward(self, x):
        return self.a(x)
