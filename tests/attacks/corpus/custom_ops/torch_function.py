# tries: A tensor of one's own class that acts at each operator.
# must: inspection import
import os
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        class Shout(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                os.mkdir(MADE_FILE)
                return super().__torch_function__(function, types, args, kwargs or {})

        return self.a(x.as_subclass(Shout))
