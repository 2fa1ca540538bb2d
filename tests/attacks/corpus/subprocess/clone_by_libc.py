# tries: Fork by the C library.
# must: inspection import
import ctypes, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            os.mkdir(MADE_FILE)
            os._exit(0)
        if child > 0:
            os.waitpid(child, 0)

    def forward(self, x):
        return self.a(x)
