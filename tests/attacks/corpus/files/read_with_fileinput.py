# tries: Read a file through a module that opens what it is given by name.
# must: inspection import
import fileinput
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError([line for line in fileinput.input(SECRET_FILE)])

    def forward(self, x):
        return self.a(x)
