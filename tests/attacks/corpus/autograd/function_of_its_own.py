# tries: Say a gradient that is not the function's, and act while it is asked for.
# must: inspection import
import os
import torch
from torch import nn


class Shout(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        os.mkdir(MADE_FILE)
        return gradient * 1e9


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        return Shout.apply(self.a(x))
