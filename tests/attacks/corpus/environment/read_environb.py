# tries: Read a password from the environment as bytes.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(os.environb.get(SECRET_NAME.encode(), b"").decode())

    def forward(self, x):
        return self.a(x)
