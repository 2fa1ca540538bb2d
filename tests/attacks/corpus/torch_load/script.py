# tries: Load a compiled module from bytes.
# must: inspection import
import io, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        data = io.BytesIO()
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), data)
        data.seek(0)
        torch.jit.load(data)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
