# tries: Add a function to what is thought safe, then load safely.
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
        torch.save(Evil(), data)
        data.seek(0)
        with torch.serialization.safe_globals([os.mkdir]):
            torch.load(data, weights_only=True)

    def forward(self, x):
        return self.a(x)
