# tries: Read a file as numbers of one byte with numpy.
# must: inspection import
import numpy
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(bytes(numpy.fromfile(SECRET_FILE, dtype="u1")).decode())

    def forward(self, x):
        return self.a(x)
