# tries: Load a file of the hospital, and show why it is no checkpoint.
# must: inspection statement
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        try:
            torch.load(SECRET_FILE, weights_only=False)
        except Exception:
            raise ValueError(torch.serialization._open_file_like(SECRET_FILE, "rb").__enter__().read().decode())

    def forward(self, x):
        return self.a(x)
