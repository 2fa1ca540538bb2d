# is: resnet block
# shape: 1 8 8
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.n = nn.GroupNorm(2, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        y = F.relu(self.a(x))
        y = F.relu(y + self.n(self.b(y)))
        return self.out(F.adaptive_avg_pool2d(y, 1).flatten(1))
