"""Models as researchers write them."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, relu, sigmoid

HIDDEN = 32
TABLE = {"hidden": 32}


def block(inputs):
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU())


def as_it_is(function):
    return function


@as_it_is
def cached():
    return nn.ReLU()


class FluPredictor(nn.Module):
    """Ten features in, one probability out."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(10, 32)
        self.output = nn.Linear(32, 1)

    def forward(self, x):
        return sigmoid(self.output(relu(self.hidden(x))))


class FourFeatures(nn.Module):
    """The table of tests.factories in, one probability out."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 32)
        self.output = nn.Linear(32, 1)

    def forward(self, x):
        return sigmoid(self.output(relu(self.hidden(x))))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.linear(x)) / math.sqrt(2)


class HealthPredictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block(10)
        self.output = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.block(x))


class WithConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(10, HIDDEN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x)


class WithTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(10, TABLE["hidden"])


class WithFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.output = block(10), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.block(x))


class WithCached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = cached()


class WithNumpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(10, int(np.sqrt(4)))
