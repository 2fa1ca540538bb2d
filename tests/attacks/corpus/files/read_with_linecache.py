# tries: Read a file through the module that quotes source lines in tracebacks.
# must: inspection import
import linecache
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(linecache.getline(SECRET_FILE, 1))

    def forward(self, x):
        return self.a(x)
