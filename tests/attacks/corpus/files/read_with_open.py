# tries: Read a file of the hospital with open and show it in an error.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(open(SECRET_FILE).read())

    def forward(self, x):
        return self.a(x)
