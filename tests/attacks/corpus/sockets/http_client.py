# tries: Fetch a page by the client below it.
# must: inspection import
import http.client
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        http.client.HTTPConnection("127.0.0.1", TCP_PORT, timeout=1).request("GET", "/")

    def forward(self, x):
        return self.a(x)
