# tries: Let batch normalisation remember one record exactly.
# must: inspection attribute
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = nn.BatchNorm1d(4, momentum=1.0)
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        self.n(x[:1].expand(2, 4))
        return self.a(x)
