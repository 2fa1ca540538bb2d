# tries: Cut bands of an evaluation where a value of the records lies.
# must: inspection literal
def attack(records, weights, round):
    from datasites.mechanisms import evaluate
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)

        def forward(self, x):
            return self.a(x)

    return evaluate(Model, records, weights, round, loss="mean_squared_error", target="age", epsilon=0.5,
                    subgroups=(("temperature", records.max()),))
