# tries: Listen, so that others may come in.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        s = socket.create_server(("127.0.0.1", 0))
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
