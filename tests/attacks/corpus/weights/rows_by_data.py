# tries: The same by the attribute that autograd does not watch.
# must: inspection attribute
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        self.a.weight.data[:] = x[:1]
        return self.a(x)
