# tries: Act in a metaclass.
# must: inspection class
from torch import nn


class Model(nn.Module, metaclass=lambda name, bases, body: __import__("os").mkdir(MADE_FILE)):
    pass
