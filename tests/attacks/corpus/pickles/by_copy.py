# tries: Copy an object that says how it is to be copied.
# must: inspection import
import copy, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Copied:
            def __reduce__(self):
                return os.mkdir, (MADE_FILE,)
        copy.copy(Copied())

    def forward(self, x):
        return self.a(x)
