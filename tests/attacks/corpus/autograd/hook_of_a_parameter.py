# tries: Act when a parameter gets its gradient.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.a.weight.register_hook(lambda gradient: os.mkdir(MADE_FILE))

    def forward(self, x):
        return self.a(x)
