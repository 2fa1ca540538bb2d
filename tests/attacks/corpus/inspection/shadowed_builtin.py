# tries: Give a built-in another meaning and let it be called.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        max = __import__
        max("os").mkdir(MADE_FILE)
        return self.a(x)
