# tries: Take two gigabytes as a tensor.
# must: inspection attribute
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        taken = torch.empty(2 << 30, dtype=torch.uint8)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
