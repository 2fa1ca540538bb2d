# tries: Serve modules from memory to whoever imports next.
# must: inspection import
import sys, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        sys.path_hooks.insert(0, lambda path: os.mkdir(MADE_FILE))
        sys.path.insert(0, "somewhere")
        import another_module_that_is_nowhere

    def forward(self, x):
        return self.a(x)
