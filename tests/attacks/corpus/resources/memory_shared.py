# tries: Take two gigabytes of shared memory, which counts elsewhere.
# must: inspection import
import mmap
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        taken = mmap.mmap(-1, 2 << 30)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
