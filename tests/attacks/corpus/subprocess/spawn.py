# tries: Run a program by posix_spawn.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.waitpid(os.posix_spawn("/usr/bin/touch", ["touch", MADE_FILE], {}), 0)

    def forward(self, x):
        return self.a(x)
