# tries: Change which program handles crashes.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        with open("/proc/self/coredump_filter", "w") as file:
            file.write("0x33")
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
