# tries: Import by a module for importing.
# must: inspection import
import importlib
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        importlib.import_module("os").mkdir(MADE_FILE)

    def forward(self, x):
        return self.a(x)
