# tries: Start twenty processes at once.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        children = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
