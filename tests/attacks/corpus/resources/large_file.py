# tries: Write a large file.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        descriptor = os.memfd_create("x")
        os.truncate(descriptor, 1 << 30)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
