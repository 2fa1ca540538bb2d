# tries: An operator that prints what it is given.
# must: inspection name
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        torch.ops.aten._print("x") if hasattr(torch.ops.aten, "_print") else None
        print(DONE)
        return self.a(x)
