# tries: Read memory that is not there.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        ctypes.string_at(0)

    def forward(self, x):
        return self.a(x)
