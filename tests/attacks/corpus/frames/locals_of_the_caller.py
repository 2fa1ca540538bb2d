# tries: Read the variables of whoever made the model.
# must: inspection import
import sys
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        frame = sys._getframe()
        while frame:
            if "records" in frame.f_locals and frame.f_locals["records"] is not None:
                raise ValueError(str(float(frame.f_locals["records"].flatten()[0])))
            frame = frame.f_back

    def forward(self, x):
        return self.a(x)
