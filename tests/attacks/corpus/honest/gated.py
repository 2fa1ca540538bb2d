# is: gated
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 16)
        self.b = nn.Linear(8, 2)

    def forward(self, x):
        return self.b(F.glu(self.a(x)))
