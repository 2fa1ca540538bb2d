# is: own recurrence
# shape: 5 2
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 4)
        self.out = nn.Linear(20, 1)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 4)
        kept = []
        for t in range(5):
            h = torch.tanh(self.a(torch.cat([x[:, t], h], dim=1)))
            kept.append(h)
        return self.out(torch.cat(kept, dim=1))
