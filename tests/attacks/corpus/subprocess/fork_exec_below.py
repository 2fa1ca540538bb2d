# tries: Use the C function that subprocess itself uses.
# must: inspection import
import _posixsubprocess, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        a, b = os.pipe()
        _posixsubprocess.fork_exec([b"touch", MADE_FILE.encode()], [b"/usr/bin/touch"], True, (), None, None, -1, -1, -1, -1, -1, -1, a, b, True, False, 0, None, None, None, -1, None, False)
        __import__("time").sleep(0.3)

    def forward(self, x):
        return self.a(x)
