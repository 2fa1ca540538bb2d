# tries: Load the format from before archives, which is a row of pickles.
# must: inspection import
import io, torch, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Evil:
            def __reduce__(self):
                return os.mkdir, (MADE_FILE,)
        data = io.BytesIO()
        torch.save(Evil(), data, _use_new_zipfile_serialization=False)
        data.seek(0)
        torch.load(data, weights_only=False)

    def forward(self, x):
        return self.a(x)
