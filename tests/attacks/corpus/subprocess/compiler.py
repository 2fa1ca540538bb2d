# tries: Let torch call a compiler for an extension.
# must: inspection import
import os, torch.utils.cpp_extension as extension
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.environ["CXX"] = "touch " + MADE_FILE + " #"
        extension.subprocess.check_output(["touch", MADE_FILE])

    def forward(self, x):
        return self.a(x)
