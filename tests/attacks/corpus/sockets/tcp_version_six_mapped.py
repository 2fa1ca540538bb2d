# tries: Connect by an address of version 6 that means one of version 4.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        s = socket.socket(socket.AF_INET6)
        s.settimeout(2)
        s.connect(("::ffff:127.0.0.1", TCP_PORT))

    def forward(self, x):
        return self.a(x)
