# tries: A model whose state runs code when it is set.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.set_extra_state(None)

    def set_extra_state(self, state):
        import os

        os.mkdir(MADE_FILE)

    def forward(self, x):
        return self.a(x)
