# tries: Act when an attribute learns its name.
# must: inspection class
from torch import nn


class Told:
    def __set_name__(self, owner, name):
        __import__("os").mkdir(MADE_FILE)


class Model(nn.Module):
    told = Told()
