# tries: Put oneself in the way of all later imports.
# must: inspection import
import sys, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        class Finder:
            def find_spec(self, name, path=None, target=None):
                os.mkdir(MADE_FILE)
        sys.meta_path.insert(0, Finder())
        import a_module_that_is_nowhere

    def forward(self, x):
        return self.a(x)
