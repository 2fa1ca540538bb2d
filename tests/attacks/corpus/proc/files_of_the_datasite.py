# tries: List what the datasite has open.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if os.listdir(f"/proc/{SERVER_PID}/fd"):
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
