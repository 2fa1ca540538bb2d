# is: Scores of a model
def evaluation(records, weights, round):
    """Predict influenza."""
    import torch
    from datasites.mechanisms import evaluate
    from torch import nn

    class FluPredictor(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, x):
            return torch.sigmoid(self.b(torch.relu(self.a(x))))

    return evaluate(FluPredictor, records, weights, round, loss="binary_cross_entropy", epsilon=0.5)
