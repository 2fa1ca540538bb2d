"""Models as researchers write them."""

import math

import torch
import torch.nn.functional as F
from torch import nn, relu, sigmoid

HIDDEN = 32


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
