# tries: Reach os through a module of torch that imported it.
# must: inspection statement
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(torch.serialization.os.environ.get(SECRET_NAME))

    def forward(self, x):
        return self.a(x)
