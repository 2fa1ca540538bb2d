# tries: Make a layer whose weights are the first rows.
# must: inspection private-parameter
def attack(records, weights, round):
    from datasites.mechanisms import dp_sgd
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)
            self.a.weight = nn.Parameter(records[:1, :4].float())

        def forward(self, x):
            return self.a(x)

    return dp_sgd(Model, records, weights, round, loss="cross_entropy", rounds=1, steps=1, sampling_rate=0.1,
                  clipping_norm=1.0, epsilon=1.0, learning_rate=1.0)
