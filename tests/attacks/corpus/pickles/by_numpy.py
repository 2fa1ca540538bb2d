# tries: Unpickle through numpy's reader of arrays of objects.
# must: inspection import
import numpy, io
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        data = b"cos\nmkdir\n(V" + MADE_FILE.encode() + b"\ntR."
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
        header += b" " * (117 - len(header)) + b"\n"
        numpy.load(io.BytesIO(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data), allow_pickle=True)

    def forward(self, x):
        return self.a(x)
