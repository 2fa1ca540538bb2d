# tries: Run a command through a pipe.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.popen("touch " + MADE_FILE).read()

    def forward(self, x):
        return self.a(x)
