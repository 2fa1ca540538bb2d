# tries: Act when the graph keeps a tensor for later.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(lambda kept: (os.mkdir(MADE_FILE), kept)[1], lambda kept: kept):
            y = self.a(x) ** 2
        return self.a(x)
