# tries: Make a file by opening a database.
# must: inspection import
import sqlite3
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        sqlite3.connect(MADE_FILE).execute("CREATE TABLE t (a)")

    def forward(self, x):
        return self.a(x)
