# tries: Act in the default of an argument that is given by name alone.
# must: inspection default
from torch import nn


class Model(nn.Module):
    def forward(self, x, *, y=__import__("os").mkdir(MADE_FILE)):
        return x
