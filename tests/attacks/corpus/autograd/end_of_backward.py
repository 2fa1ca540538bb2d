# tries: Queue a call for the end of the backward pass, by way of a parameter's hook.
# must: inspection import
import os, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        def queue(gradient):
            torch.autograd.Variable._execution_engine.queue_callback(lambda: os.mkdir(MADE_FILE))
        if self.a.weight.requires_grad and not getattr(self, "queued", False):
            self.queued = True
            self.a.weight.register_hook(queue)
        return self.a(x)
