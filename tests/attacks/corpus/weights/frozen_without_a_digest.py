# tries: Freeze a layer that nobody has named the values of.
# must: harmless
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        for parameter in self.body.parameters():
            parameter.requires_grad_(False)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(x))
