# tries: Map a file into a tensor with torch.from_file.
# must: inspection statement
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(bytes(torch.from_file(SECRET_FILE, size=22, dtype=torch.uint8).tolist()).decode())

    def forward(self, x):
        return self.a(x)
