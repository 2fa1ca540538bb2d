# tries: Put a forbidden name together out of pieces.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        getattr(__builtins__, "op" + "en", None) or 0
        (__builtins__ if isinstance(__builtins__, dict) else vars(__builtins__))["op" + "en"](MADE_FILE, "w").close()
        return self.a(x)
