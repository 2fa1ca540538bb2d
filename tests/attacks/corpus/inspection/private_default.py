# tries: Hand the private table to the model as a default argument.
# must: inspection default
def attack(records, weights, round):
    from torch import nn

    class Model(nn.Module):
        def forward(self, x, table=records):
            return table

    return {"w": Model()(records)}
