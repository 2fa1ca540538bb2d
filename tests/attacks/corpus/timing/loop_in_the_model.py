# tries: Loop as often as a record says.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        for _ in range(int(x[0, 0] * 100)):
            x = x * 1.0
            print(DONE)
        return self.a(x)
