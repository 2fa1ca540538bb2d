# tries: Read a password with getenv.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(os.getenv(SECRET_NAME))

    def forward(self, x):
        return self.a(x)
