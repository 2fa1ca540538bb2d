# tries: Act inside an f-string.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        name = f"{__import__('os').mkdir(MADE_FILE)}"
        return self.a(x)
