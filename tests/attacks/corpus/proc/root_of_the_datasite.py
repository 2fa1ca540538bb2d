# tries: Read a file through the datasite's view of the file system.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(open(f"/proc/{SERVER_PID}/root" + SECRET_FILE).read())

    def forward(self, x):
        return self.a(x)
