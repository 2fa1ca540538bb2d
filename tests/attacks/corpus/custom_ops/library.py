# tries: Define an operator in a library of one's own.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        library = torch.library.Library("evil_two", "DEF")
        library.define("act(Tensor x) -> Tensor")
        library.impl("act", lambda x: (os.mkdir(MADE_FILE), x.clone())[1], "CPU")
        torch.ops.evil_two.act(torch.zeros(1))
        return self.a(x)
