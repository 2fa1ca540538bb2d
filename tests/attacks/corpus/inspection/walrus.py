# tries: Bind a forbidden function in the middle of an expression.
# must: inspection attribute
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        (do := __import__)("os").mkdir(MADE_FILE)
        return self.a(x)
