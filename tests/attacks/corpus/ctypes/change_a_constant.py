# tries: Change a small number for the whole process, and with it every check.
# must: inspection import
import ctypes
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        ctypes.c_long.from_address(id(7) + 24).value = 7
        if ctypes.c_long.from_address(id(7) + 24).value == 7:
            open(MADE_FILE, "w").close()

    def forward(self, x):
        return self.a(x)
