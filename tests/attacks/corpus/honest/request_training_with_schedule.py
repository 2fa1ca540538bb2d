# is: Training with a falling learning rate and automatic clipping
def training_with_schedule(records, weights, round):
    """Predict influenza."""
    import torch
    from datasites.mechanisms import dp_sgd
    from torch import nn

    class FluPredictor(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, x):
            return torch.sigmoid(self.b(torch.relu(self.a(x))))

    return dp_sgd(FluPredictor, records, weights, round, loss="binary_cross_entropy", rounds=1, steps=10,
                  sampling_rate=0.05, clipping_norm=0.5, epsilon=1.0, learning_rate=0.1,
                  schedule="cosine", clipping="automatic")
