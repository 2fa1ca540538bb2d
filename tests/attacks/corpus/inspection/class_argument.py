# tries: Act in an argument that the base class is told.
# must: inspection class
from torch import nn


class Model(nn.Module, option=__import__("os").mkdir(MADE_FILE)):
    pass
