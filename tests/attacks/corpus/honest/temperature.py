# is: temperature
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 2)
        self.s = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.a(x) / self.s.exp()
