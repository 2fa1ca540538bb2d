# tries: Act at each call of every layer in this process.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        torch.nn.modules.module.register_module_forward_hook(lambda module, given, result: os.mkdir(MADE_FILE) if not os.path.exists(MADE_FILE) else None)

    def forward(self, x):
        return self.a(x)
