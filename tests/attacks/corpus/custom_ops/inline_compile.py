# tries: Compile a function, and act in the backend.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        def backend(graph, inputs):
            os.mkdir(MADE_FILE)
            return graph.forward
        torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2))

    def forward(self, x):
        return self.a(x)
