# tries: Ask who holds a class, and what else they hold.
# must: inspection import
import gc, sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        modules = [each for each in gc.get_referrers(sys) if isinstance(each, dict)]
        for each in modules:
            if "os" in each:
                raise ValueError(str(each["os"].environ.get(SECRET_NAME)))

    def forward(self, x):
        return self.a(x)
