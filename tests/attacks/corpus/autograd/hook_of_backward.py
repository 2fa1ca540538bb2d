# tries: Act in the backward pass of a layer.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.a.register_full_backward_hook(lambda module, given, result: os.mkdir(MADE_FILE))

    def forward(self, x):
        return self.a(x)
