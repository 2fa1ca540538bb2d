# tries: Act in a decorator, which runs when the class is made.
# must: inspection decorator
from torch import nn


class Model(nn.Module):
    @__import__("os").mkdir(MADE_FILE)
    def forward(self, x):
        return x
