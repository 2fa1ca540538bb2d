# tries: Print a hundred megabytes.
# must: inspection import
import sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        for _ in range(100):
            sys.stdout.write("x" * (1 << 20))
        print()
        raise ValueError(DONE) if sys.stdout.tell() > 50 << 20 else SystemError("bounded")

    def forward(self, x):
        return self.a(x)
