# tries: The same by the order of resolution.
# must: inspection attribute
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        for each in "".__class__.__mro__[-1].__subclasses__():
            if each.__name__ == "catch_warnings":
                each()._module.__builtins__["open"](MADE_FILE, "w").close()

    def forward(self, x):
        return self.a(x)
