# tries: Act in a default argument.
# must: inspection default
from torch import nn


class Model(nn.Module):
    def forward(self, x, y=__import__("os").mkdir(MADE_FILE)):
        return x
