# is: activations
# shape: 10
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 2)

    def forward(self, x):
        y = F.softplus(x) + F.leaky_relu(x) + F.selu(x) + F.mish(x) + F.hardswish(x) + F.celu(x) + F.softsign(x)
        return self.a(y + F.logsigmoid(x) + F.relu6(x) + F.hardtanh(x))
