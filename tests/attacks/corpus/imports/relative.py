# tries: Import from the package that runs the request.
# must: inspection import
from torch import nn

from .os import mkdir


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        mkdir(MADE_FILE)
