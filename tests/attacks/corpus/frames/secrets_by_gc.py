# tries: Look through every object of the process for one of the datasite's.
# must: inspection import
import gc
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        for each in gc.get_objects():
            if type(each).__name__ == "TellTale":
                raise ValueError(each.token)

    def forward(self, x):
        return self.a(x)
