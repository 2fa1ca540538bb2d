# tries: Read a file as words with numpy's reader of text.
# must: inspection import
import numpy
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(str(numpy.genfromtxt(SECRET_FILE, dtype=str)))

    def forward(self, x):
        return self.a(x)
