# tries: A mode that sees every operator from now on.
# must: inspection import
import os, torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                os.mkdir(MADE_FILE)
                return function(*args, **(kwargs or {}))
        with Watch():
            torch.ones(2)

    def forward(self, x):
        return self.a(x)
