# is: depthwise
# shape: 1 8 8
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.d = nn.Conv2d(1, 4, 3)
        self.p = nn.Conv2d(4, 4, 3, groups=4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(F.relu(self.p(self.d(x))).mean(dim=(2, 3)))
