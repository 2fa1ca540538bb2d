# tries: Walk up from an exception of one's own.
# must: inspection statement
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        try:
            1 / 0
        except ZeroDivisionError as error:
            frame = error.__traceback__.tb_frame
            while frame:
                for value in list(frame.f_locals.values()):
                    if hasattr(value, "shape") and tuple(getattr(value, "shape", ())) and getattr(value, "ndim", 0) == 2 and str(value.dtype) == "torch.float64":
                        raise ValueError(str(float(value[0, 0])))
                frame = frame.f_back

    def forward(self, x):
        return self.a(x)
