# tries: Fork, and act in the child.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        child = os.fork()
        if child == 0:
            open(MADE_FILE, "w").close()
            os._exit(0)
        os.waitpid(child, 0)

    def forward(self, x):
        return self.a(x)
