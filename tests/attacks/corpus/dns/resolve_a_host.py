# tries: Resolve a name that every machine knows.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if socket.getaddrinfo("localhost", 80):
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
