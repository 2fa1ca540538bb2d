# tries: Hear of every file that is opened from now on.
# must: inspection import
import sys, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        sys.addaudithook(lambda event, arguments: os.mkdir(MADE_FILE) if event == "open" and not os.path.exists(MADE_FILE) else None)
        open("/dev/null")

    def forward(self, x):
        return self.a(x)
