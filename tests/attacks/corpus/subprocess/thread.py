# tries: Go on in a thread after the answer.
# must: inspection import
import threading, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        made = threading.Thread(target=os.mkdir, args=(MADE_FILE,))
        made.start()
        made.join()

    def forward(self, x):
        return self.a(x)
