# tries: Give an allowed operator another meaning for everybody.
# must: inspection import
import os, torch, warnings
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        warnings.simplefilter("ignore")
        library = torch.library.Library("aten", "IMPL")
        library.impl("erfinv", lambda x: (os.mkdir(MADE_FILE), x)[1], "CPU")
        torch.erfinv(torch.zeros(1))

    def forward(self, x):
        return self.a(x)
