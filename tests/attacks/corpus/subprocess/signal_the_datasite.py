# tries: Signal the datasite's process.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.kill(SERVER_PID, 0)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
