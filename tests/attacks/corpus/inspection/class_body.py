# tries: Act in the class's body.
# must: inspection class
from torch import nn


class Model(nn.Module):
    __import__("os").mkdir(MADE_FILE)

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        return self.a(x)
