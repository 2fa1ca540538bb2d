# is: Scores of several labels by sex and by bands of age
def evaluation(records, weights, round):
    """Score two labels."""
    from datasites.mechanisms import evaluate
    from torch import nn

    class Labels(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x):
            return self.a(x)

    return evaluate(
        Labels, records, weights, round, loss="multilabel_binary_cross_entropy_with_logits",
        target=("stroke", "fall"), epsilon=0.5, bins=10, subgroups=["sex", ["age", 40, 65]],
    )
