# tries: Write a forbidden name in letters that Python folds into it.
# must: inspection name
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)

    def forward(self, x):
        ｅｖａｌ("__import__('os').mkdir(" + repr(MADE_FILE) + ")")
        return self.a(x)
