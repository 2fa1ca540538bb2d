# tries: Resolve a name by the older call.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if socket.gethostbyname("localhost"):
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
