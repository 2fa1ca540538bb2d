# tries: Write the first record into the weights while the model computes.
# must: inspection statement
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        with torch.no_grad():
            self.a.weight.copy_(x[:1])
        return self.a(x)
