# tries: Take a module from those that torch has loaded.
# must: inspection attribute
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        torch.sys.modules["os"].mkdir(MADE_FILE)

    def forward(self, x):
        return self.a(x)
