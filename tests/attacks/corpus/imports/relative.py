# tries: Import from the package that runs the request.
# must: inspection import
from .os import mkdir
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        mkdir(MADE_FILE)
