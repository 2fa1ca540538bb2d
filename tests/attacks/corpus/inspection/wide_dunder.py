# tries: Write a forbidden attribute in folded letters.
# must: inspection attribute
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        self.a.forward.__func__.__ｇlobals__["__builtins__"]["open"](MADE_FILE, "w").close()
        return self.a(x)
