# tries: A model that runs code when it is copied, as exporting does.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def __deepcopy__(self, memo):
        import os

        os.mkdir(MADE_FILE)
        return self

    def forward(self, x):
        import copy

        return copy.deepcopy(self).a(x)
