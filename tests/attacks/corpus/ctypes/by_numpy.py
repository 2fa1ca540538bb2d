# tries: Reach ctypes through numpy.
# must: inspection import
import numpy
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        numpy.ctypeslib.ctypes.CDLL(None).mkdir(MADE_FILE.encode(), 0o755)

    def forward(self, x):
        return self.a(x)
