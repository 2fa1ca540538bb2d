# tries: Connect to a port.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        socket.create_connection(("127.0.0.1", TCP_PORT), timeout=2).close()

    def forward(self, x):
        return self.a(x)
