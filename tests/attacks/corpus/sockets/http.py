# tries: Fetch a page by Python's own client.
# must: inspection import
import urllib.request
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        urllib.request.urlopen(f"http://127.0.0.1:{TCP_PORT}/", timeout=1)

    def forward(self, x):
        return self.a(x)
