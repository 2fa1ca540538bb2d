# is: rnn
# shape: 5 2
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(2, 8, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        y, h = self.rnn(x)
        return self.out(y.mean(1))
