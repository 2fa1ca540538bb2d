# tries: Read the same address in this process, which was forked from a sibling of the datasite.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        found = ctypes.string_at(SECRET_ADDRESS, SECRET_SIZE)
        raise ValueError(found.decode("latin-1"))

    def forward(self, x):
        return self.a(x)
