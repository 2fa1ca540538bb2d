# tries: Make a file by saving a tensor.
# must: inspection attribute
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        torch.save(torch.zeros(1), MADE_FILE)

    def forward(self, x):
        return self.a(x)
