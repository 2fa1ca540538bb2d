# tries: Walk attributes by a format string, where no attribute is written.
# must: inspection attribute
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        found = ("{0.forward.__globals__[torch].sys.modules[os].environ[" + SECRET_NAME + "]}").format(self.a)
        raise ValueError(found)
        return self.a(x)
