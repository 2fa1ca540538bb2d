# tries: A model that says how it is to be pickled, for whoever stores it.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def __reduce__(self):
        import os

        return os.mkdir, (MADE_FILE,)

    def forward(self, x):
        import copy

        copy.copy(self)
        return self.a(x)
