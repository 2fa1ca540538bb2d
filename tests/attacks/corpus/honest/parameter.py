# is: parameter
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(10, 2))
        self.b = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x @ self.w + self.b
