# tries: Read the environment from the built-in module below os.
# must: inspection import
import posix
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(posix.environ.get(SECRET_NAME.encode(), b"").decode())

    def forward(self, x):
        return self.a(x)
