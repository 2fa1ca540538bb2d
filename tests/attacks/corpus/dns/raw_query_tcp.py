# tries: The same question over a connection, with its length before it.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        query = b"\0\1\1\0\0\1\0\0\0\0\0\0\6secret\7invalid\0\0\1\0\1"
        with socket.create_connection(("127.0.0.1", TCP_PORT), timeout=2) as s:
            s.sendall(len(query).to_bytes(2, "big") + query)

    def forward(self, x):
        return self.a(x)
