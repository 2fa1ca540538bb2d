# tries: Import code out of a torch package in memory.
# must: inspection import
import io, torch.package
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        data = io.BytesIO()
        with torch.package.PackageExporter(data) as made:
            made.save_source_string("evil", "import os\nos.mkdir(" + repr(MADE_FILE) + ")")
            made.extern("os")
        data.seek(0)
        torch.package.PackageImporter(data).import_module("evil")

    def forward(self, x):
        return self.a(x)
