# tries: Let a path be expanded that names a variable.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(os.path.expandvars("$" + SECRET_NAME))

    def forward(self, x):
        return self.a(x)
