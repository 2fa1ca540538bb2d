# is: masked attention
# shape: 5 8
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        s = self.q(x) @ x.transpose(1, 2)
        s = s.masked_fill(s < -3.0, float('-inf'))
        return self.out((torch.softmax(s / math.sqrt(8), dim=-1) @ x).mean(1))
