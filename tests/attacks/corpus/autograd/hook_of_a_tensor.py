# tries: Act when a gradient passes.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        y = self.a(x)
        if y.requires_grad:
            y.register_hook(lambda gradient: os.mkdir(MADE_FILE))
        x = y.expand(y.shape[0], 4)
        return self.a(x)
