# tries: Unpickle through pandas.
# must: inspection import
import pandas, io
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        pandas.read_pickle(io.BytesIO(b"cos\nmkdir\n(V" + MADE_FILE.encode() + b"\ntR."), compression=None)

    def forward(self, x):
        return self.a(x)
