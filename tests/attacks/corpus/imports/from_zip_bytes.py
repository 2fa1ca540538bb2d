# tries: Load marshalled code that no reader of text sees.
# must: inspection import
import marshal, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        code = marshal.dumps(compile("os.mkdir(path)", "x", "eval"))
        eval(marshal.loads(code), {"os": os, "path": MADE_FILE})

    def forward(self, x):
        return self.a(x)
