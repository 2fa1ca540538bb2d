# tries: Make a file by asking torch's profiler to export its trace.
# must: inspection attribute
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        with torch.profiler.profile() as seen:
            torch.ones(2) + 1
        seen.export_chrome_trace(MADE_FILE)

    def forward(self, x):
        return self.a(x)
