# is: autoencoder
# shape: 2 8
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv1d(2, 3, 2, stride=2)
        self.b = nn.ConvTranspose1d(3, 2, 2, stride=2)
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        return self.out((x - self.b(F.relu(self.a(x)))).flatten(1))
