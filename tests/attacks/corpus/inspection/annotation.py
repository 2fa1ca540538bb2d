# tries: Act in an annotation.
# must: inspection annotation
from torch import nn


class Model(nn.Module):
    def forward(self, x: __import__("os").mkdir(MADE_FILE)):
        return x
