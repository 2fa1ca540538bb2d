# tries: Send a pickle through a pipe to oneself.
# must: inspection import
import multiprocessing, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Sent:
            def __reduce__(self):
                return os.mkdir, (MADE_FILE,)
        a, b = multiprocessing.Pipe()
        a.send(Sent())
        b.recv()

    def forward(self, x):
        return self.a(x)
