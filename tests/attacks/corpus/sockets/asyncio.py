# tries: Connect within an event loop of its own.
# must: inspection import
import asyncio
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", TCP_PORT), 2))

    def forward(self, x):
        return self.a(x)
