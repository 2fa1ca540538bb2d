# tries: Exchange the code of a function that the datasite will call.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.a.forward.__func__.__code__ = (lambda self, input: os.mkdir(MADE_FILE)).__code__.replace(co_freevars=())

    def forward(self, x):
        return self.a(x)
