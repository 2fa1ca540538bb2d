# tries: Run a command by the shell.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.system("touch " + MADE_FILE)

    def forward(self, x):
        return self.a(x)
