# tries: Act after each call of a layer, and exchange its output.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.a.register_forward_hook(lambda module, given, result: os.mkdir(MADE_FILE) or result)

    def forward(self, x):
        return self.a(x)
