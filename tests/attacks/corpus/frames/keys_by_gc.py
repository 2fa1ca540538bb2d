# tries: Look for private keys among all objects.
# must: inspection import
import gc
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        for each in gc.get_objects():
            if type(each).__name__ in ("SigningKey", "SyftSigningKey", "Ed25519PrivateKey"):
                raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
