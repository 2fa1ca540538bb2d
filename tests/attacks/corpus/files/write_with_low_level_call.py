# tries: Make a file by the operating system's own call.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.close(os.open(MADE_FILE, os.O_CREAT | os.O_WRONLY))

    def forward(self, x):
        return self.a(x)
