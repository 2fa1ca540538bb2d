"""The model, as Flower's templates keep it: a module that both the study and the apps import."""

from torch import nn, relu, sigmoid


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(10, 32), nn.Linear(32, 1)

    def forward(self, x):
        return sigmoid(self.layer2(relu(self.layer1(x))))
