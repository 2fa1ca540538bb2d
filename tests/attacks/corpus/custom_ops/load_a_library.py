# tries: Load compiled operators from a file.
# must: inspection statement
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        try:
            torch.ops.load_library(SECRET_FILE)
        except OSError as error:
            if "invalid ELF" in str(error) or "too short" in str(error):
                raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
