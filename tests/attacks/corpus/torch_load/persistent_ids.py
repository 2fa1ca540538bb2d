# tries: Use a pickle module of one's own for loading.
# must: inspection import
import io, pickle, torch, os, types
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Evil:
            def __reduce__(self):
                return os.mkdir, (MADE_FILE,)
        own = types.SimpleNamespace(**{name: getattr(pickle, name) for name in ("Pickler", "Unpickler", "load", "loads", "dumps", "dump")}, __name__="own")
        data = io.BytesIO()
        torch.save({"a": Evil()}, data, pickle_module=pickle)
        data.seek(0)
        torch.load(data, pickle_module=own, weights_only=False)

    def forward(self, x):
        return self.a(x)
