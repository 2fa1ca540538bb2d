# tries: Thaw a layer while it computes, so that a declared constant learns from the record.
# must: inspection state
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.body.requires_grad_(False)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        self.body.requires_grad_(True)
        return self.head(self.body(x))
