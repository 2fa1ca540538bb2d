# tries: Hold a place for a long time.
# must: inspection import
import time
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        time.sleep(6)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
