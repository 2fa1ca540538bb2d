# tries: Call Python on each number of a tensor.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        torch.ones(1).apply_(lambda value: os.mkdir(MADE_FILE) or value)

    def forward(self, x):
        return self.a(x)
