# is: positions
# shape: 5 8
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1, 5, 8))
        self.a = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        x = x + self.p
        return self.out(self.a(x, x, x)[0][:, 0])
