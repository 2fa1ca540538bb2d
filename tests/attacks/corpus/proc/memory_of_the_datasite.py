# tries: Read the datasite's memory as a file.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        memory = open(f"/proc/{SERVER_PID}/mem", "rb", 0)
        memory.seek(SECRET_ADDRESS)
        raise ValueError(memory.read(SECRET_SIZE).decode())

    def forward(self, x):
        return self.a(x)
