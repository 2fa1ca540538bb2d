# tries: An operator written in Python that acts while it computes.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        @torch.library.custom_op("evil::one", mutates_args=())
        def act(x: torch.Tensor) -> torch.Tensor:
            os.mkdir(MADE_FILE)
            return x.clone()
        act(x)
        return self.a(x)
