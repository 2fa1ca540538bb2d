# tries: Read a file as a table with pandas.
# must: inspection import
import pandas
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        raise ValueError(str(list(pandas.read_csv(SECRET_FILE))))

    def forward(self, x):
        return self.a(x)
