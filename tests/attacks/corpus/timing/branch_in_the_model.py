# tries: Take a longer way in the model for one kind of record.
# must: inspection name
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        y = x
        if bool((x[:, 0] > 0.7).any()):
            for _ in range(2000):
                y = torch.tanh(y)
            print(DONE)
        return self.a(x)
