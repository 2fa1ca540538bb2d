# tries: Keep what comes by in a buffer that travels with the weights.
# must: inspection state
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.register_buffer("seen", torch.zeros(4, 4))

    def forward(self, x):
        self.seen.copy_(x[:1].expand(4, 4))
        return self.a(x)
