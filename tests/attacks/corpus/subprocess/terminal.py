# tries: Run a command behind a terminal.
# must: inspection import
import pty
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        pty.spawn(["touch", MADE_FILE])

    def forward(self, x):
        return self.a(x)
