# tries: Run a function a second time in the backward pass.
# must: inspection import
import os, torch.utils.checkpoint
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        def twice(x):
            os.mkdir(MADE_FILE) if not os.path.exists(MADE_FILE) else None
            return x * 1.0
        x = torch.utils.checkpoint.checkpoint(twice, x, use_reentrant=False)
        return self.a(x)
