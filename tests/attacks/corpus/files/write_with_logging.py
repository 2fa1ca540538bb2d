# tries: Make a file by a handler of log lines.
# must: inspection import
import logging
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        logging.FileHandler(MADE_FILE)

    def forward(self, x):
        return self.a(x)
