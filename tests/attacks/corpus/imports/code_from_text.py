# tries: Compile a text and run it.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        exec(compile("import os; os.mkdir(" + repr(MADE_FILE) + ")", "x", "exec"))

    def forward(self, x):
        return self.a(x)
