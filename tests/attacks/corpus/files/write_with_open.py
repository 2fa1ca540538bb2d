# tries: Make a file.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        open(MADE_FILE, "w").close()

    def forward(self, x):
        return self.a(x)
