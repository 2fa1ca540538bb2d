# tries: Act before each call of a layer.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.a.register_forward_pre_hook(lambda module, given: os.mkdir(MADE_FILE))

    def forward(self, x):
        return self.a(x)
