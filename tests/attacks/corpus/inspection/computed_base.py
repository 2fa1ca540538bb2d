# tries: Act while the base class is found.
# must: inspection class
from torch import nn


class Model([nn.Module, __import__("os").mkdir(MADE_FILE)][0]):
    pass
