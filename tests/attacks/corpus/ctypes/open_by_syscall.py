# tries: Open a file by the number of the system call.
# must: inspection import
import ctypes, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        descriptor = ctypes.CDLL(None).syscall(2, SECRET_FILE.encode(), 0)
        raise ValueError(os.read(descriptor, 100).decode())

    def forward(self, x):
        return self.a(x)
