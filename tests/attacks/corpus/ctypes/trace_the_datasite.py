# tries: Attach to the datasite as a debugger does.
# must: inspection import
import ctypes, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if SERVER_PID != os.getpid() and ctypes.CDLL(None).ptrace(16, SERVER_PID, None, None) == 0:
            ctypes.CDLL(None).ptrace(17, SERVER_PID, None, None)
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
