# is: health deep
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 64)
        self.b = nn.Linear(64, 32)
        self.c = nn.Linear(32, 2)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))
