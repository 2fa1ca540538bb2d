# is: Training on a number with Huber's loss
def training(records, weights, round):
    """Predict age."""
    from datasites.mechanisms import dp_sgd
    from torch import nn

    class Age(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)

        def forward(self, x):
            return self.a(x)

    return dp_sgd(
        Age, records, weights, round, loss="huber", huber_delta=5.0, target="age", rounds=2, steps=10,
        sampling_rate=0.1, clipping_norm=1.0, learning_rate=0.1, epsilon=1.0,
    )
