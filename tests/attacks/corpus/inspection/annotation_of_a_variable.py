# tries: Act in the annotation of a class's variable.
# must: inspection annotation
from torch import nn


class Model(nn.Module):
    size: __import__("os").mkdir(MADE_FILE) = 3

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        return self.a(x)
