# is: attention over time
# shape: 5 2
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 4, batch_first=True)
        self.s = nn.Linear(4, 1)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        y, _ = self.rnn(x)
        a = torch.softmax(self.s(y), dim=1)
        return self.out((a * y).sum(dim=1))
