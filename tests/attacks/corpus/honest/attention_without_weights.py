# is: attention without weights
# shape: 5 8
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        y, _ = self.a(x, x, x, need_weights=False)
        return self.out(y.mean(dim=1))
