# tries: Act in a decorator of the class.
# must: inspection class
from torch import nn


@(lambda made: __import__("os").mkdir(MADE_FILE) or made)
class Model(nn.Module):
    pass
