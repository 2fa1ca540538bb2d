# tries: Send a question from an event loop.
# must: inspection import
import asyncio
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        async def ask():
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=("127.0.0.1", UDP_PORT)
            )
            transport.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1")
            await asyncio.sleep(0.1)
        asyncio.run(ask())

    def forward(self, x):
        return self.a(x)
