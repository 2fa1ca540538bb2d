# tries: Read attributes by a pattern.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        match self.a.forward.__func__:
            case object(__globals__=found):
                found["__builtins__"]["open"](MADE_FILE, "w").close()
        return self.a(x)
