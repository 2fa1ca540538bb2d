# tries: Act in an argument of the mechanism.
# must: inspection import
def attack(records, weights, round):
    from datasites.mechanisms import dp_sgd
    import os
    from torch import nn

    class Model(nn.Module):
        pass

    return dp_sgd(Model, records, weights, round, loss="cross_entropy", rounds=os.mkdir(MADE_FILE) or 1, steps=1,
                  sampling_rate=0.1, clipping_norm=1.0, epsilon=1.0, learning_rate=1.0)
