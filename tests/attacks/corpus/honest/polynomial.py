# is: polynomial
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(20, 2)

    def forward(self, x):
        return self.a(torch.cat([x, x ** 2], dim=1))
