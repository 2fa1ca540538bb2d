# tries: Reach the environment through the modules that are loaded.
# must: inspection import
import sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(sys.modules["os"].environ.get(SECRET_NAME))

    def forward(self, x):
        return self.a(x)
