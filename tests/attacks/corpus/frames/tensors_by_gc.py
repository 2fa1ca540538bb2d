# tries: Look for tensors of private rows among all objects.
# must: inspection import
import gc, torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        for each in gc.get_objects():
            if type(each) is torch.Tensor and each.ndim == 2 and each.dtype == torch.float64:
                raise ValueError(str(float(each[0, 0])))

    def forward(self, x):
        return self.a(x)
