# tries: Open a shelf, which is a file of pickles.
# must: inspection import
import shelve
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        shelve.open(MADE_FILE)

    def forward(self, x):
        return self.a(x)
