# tries: Read a file by pathlib, which needs no built-in name.
# must: inspection import
from pathlib import Path
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(Path(SECRET_FILE).read_text())

    def forward(self, x):
        return self.a(x)
