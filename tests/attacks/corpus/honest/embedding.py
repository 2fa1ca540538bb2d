# is: embedding
# shape: 3
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(4, 3)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.cat([self.e(x[:, 0].clamp(0, 3).long()), x[:, 1:]], dim=1))
