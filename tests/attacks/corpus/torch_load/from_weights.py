# tries: Carry a pickle as bytes in the weights, and load it where the model trains.
# must: inspection import
def attack(records, weights, round):
    from datasites.mechanisms import dp_sgd
    import io, os, torch
    from torch import nn

    class Evil:
        def __reduce__(self):
            return os.mkdir, (MADE_FILE,)

    data = io.BytesIO()
    torch.save(Evil(), data)
    carried = torch.frombuffer(bytearray(data.getvalue()), dtype=torch.uint8)
    torch.load(io.BytesIO(bytes(carried.tolist())), weights_only=False)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)

        def forward(self, x):
            return self.a(x)

    return dp_sgd(Model, records, weights, round, loss="cross_entropy", rounds=1, steps=1, sampling_rate=0.1,
                  clipping_norm=1.0, epsilon=1.0, learning_rate=1.0)
