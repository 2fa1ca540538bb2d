# tries: Run when an object is collected.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Last:
            def __del__(self):
                os.mkdir(MADE_FILE)
        Last()

    def forward(self, x):
        return self.a(x)
