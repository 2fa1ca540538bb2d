# tries: Act when a class is derived.
# must: inspection class
from torch import nn


class Base(nn.Module):
    def __init_subclass__(cls):
        __import__("os").mkdir(MADE_FILE)


class Model(Base):
    pass
