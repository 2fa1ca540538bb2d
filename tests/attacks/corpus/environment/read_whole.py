# tries: Show the whole environment in an error.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError("\n".join(f"{k}={v}" for k, v in os.environ.items() if k == SECRET_NAME))

    def forward(self, x):
        return self.a(x)
