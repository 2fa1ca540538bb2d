# tries: Import by the function that import itself uses.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        __import__("os").mkdir(MADE_FILE)

    def forward(self, x):
        return self.a(x)
