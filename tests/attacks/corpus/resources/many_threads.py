# tries: Start a hundred threads at once.
# must: inspection import
import threading
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        started = [threading.Thread(target=int) for _ in range(100)]
        for each in started:
            each.start()
        raise ValueError(DONE)

    def forward(self, x):
        return self.a(x)
