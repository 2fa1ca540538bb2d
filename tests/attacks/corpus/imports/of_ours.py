# tries: Import the datasite's own code and use it.
# must: inspection import
import datasites.review.rounds, os
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        os.close(datasites.review.rounds.os.open(MADE_FILE, os.O_CREAT))

    def forward(self, x):
        return self.a(x)
