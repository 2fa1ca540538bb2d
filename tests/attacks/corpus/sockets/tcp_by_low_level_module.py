# tries: Connect by the module below socket.
# must: inspection import
import _socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0).connect(("127.0.0.1", TCP_PORT))

    def forward(self, x):
        return self.a(x)
