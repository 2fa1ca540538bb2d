# tries: Import every name of a module, with those that are not meant.
# must: inspection import
from os import *
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        mkdir(MADE_FILE)
