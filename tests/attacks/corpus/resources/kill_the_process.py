# tries: Kill the process that runs the request.
# must: inspection import
import os, signal
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x):
        return self.a(x)
