# tries: Start a process by the same module under torch's name.
# must: inspection import
import os, torch.multiprocessing
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        made = torch.multiprocessing.get_context("fork").Process(target=os.mkdir, args=(MADE_FILE,))
        made.start()
        made.join()

    def forward(self, x):
        return self.a(x)
