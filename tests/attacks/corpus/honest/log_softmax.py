# is: log softmax
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 3)

    def forward(self, x):
        return F.log_softmax(self.a(x), dim=1)
