# tries: Act after a gradient was added up.
# must: inspection import
import os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.a.weight.register_post_accumulate_grad_hook(lambda parameter: os.mkdir(MADE_FILE))

    def forward(self, x):
        return self.a(x)
