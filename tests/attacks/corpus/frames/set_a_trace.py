# tries: Watch every call from now on.
# must: inspection import
import sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        def watch(frame, event, argument):
            found = frame.f_locals.get("records")
            if found is not None and hasattr(found, "flatten"):
                raise ValueError(str(float(found.flatten()[0])))
            return watch
        sys.settrace(watch)
        self.a.extra_repr()
        sys.settrace(None)

    def forward(self, x):
        return self.a(x)
