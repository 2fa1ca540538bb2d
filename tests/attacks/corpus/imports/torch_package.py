# tries: Import by torch's own importer of packages.
# must: inspection import
import torch.package
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        torch.package.sys_importer.import_module("os").mkdir(MADE_FILE)

    def forward(self, x):
        return self.a(x)
