# tries: Ask for the name of an address.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        if socket.gethostbyaddr("127.0.0.1"):
            raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
