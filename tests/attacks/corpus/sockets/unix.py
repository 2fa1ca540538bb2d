# tries: Connect to a socket in a directory.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        socket.socket(socket.AF_UNIX).connect(UNIX_SOCKET)

    def forward(self, x):
        return self.a(x)
