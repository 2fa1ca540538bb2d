# is: Training on a time with an event
def training(records, weights, round):
    """Predict the time to an event."""
    from datasites.mechanisms import dp_sgd
    from torch import nn

    class Hazards(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 6)

        def forward(self, x):
            return self.b(nn.functional.relu(self.a(x)))

    return dp_sgd(
        Hazards, records, weights, round, loss="discrete_hazards", target=("days", "died"), horizon=730,
        rounds=2, steps=10, sampling_rate=0.1, clipping_norm=1.0, learning_rate=0.1, epsilon=1.0,
    )
