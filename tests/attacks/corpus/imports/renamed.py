# tries: Import a dangerous module under a harmless name.
# must: inspection import
import os as math
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        math.mkdir(MADE_FILE)
