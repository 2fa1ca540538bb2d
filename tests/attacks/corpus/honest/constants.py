# is: constants
# shape: 4
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 2)

    def forward(self, x):
        return self.a(x * torch.tensor([1.0, 0.5, 2.0, 1.0]))
