# tries: Announce a name as printers do, to one listener.
# must: inspection import
import socket
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        answer = b"\0\0\x84\0\0\0\0\1\0\0\0\0\6secret\5local\0\0\x10\x80\1\0\0\0\x78\0\2\1x"
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(answer, ("127.0.0.1", UDP_PORT))

    def forward(self, x):
        return self.a(x)
