# tries: Hear of every file that is opened from now on.
# must: inspection import
import sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        sys.addaudithook(lambda event, arguments: None)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
