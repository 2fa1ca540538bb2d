# tries: Load an exported program, whose archive holds pickles.
# must: inspection import
import io, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        data = io.BytesIO()
        torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), data)
        data.seek(0)
        torch.export.load(data)
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
