# tries: Run a command by subprocess.
# must: inspection import
import subprocess
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        subprocess.run(["touch", MADE_FILE])

    def forward(self, x):
        return self.a(x)
