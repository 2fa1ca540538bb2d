# is: prelu
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 8), nn.PReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.net(x)
