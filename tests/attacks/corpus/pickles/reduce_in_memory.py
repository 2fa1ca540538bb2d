# tries: Unpickle bytes that call a function.
# must: inspection import
import pickle
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        pickle.loads(b"cos\nmkdir\n(V" + MADE_FILE.encode() + b"\ntR.")

    def forward(self, x):
        return self.a(x)
