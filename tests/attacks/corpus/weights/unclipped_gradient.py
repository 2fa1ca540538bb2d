# tries: Return the gradient of one record, which for a linear layer is the record.
# must: inspection statement
def attack(records, weights, round):
    import torch
    from torch import nn

    model = nn.Linear(7, 1, bias=False)
    model(records[:1].float()).sum().backward()
    return {"w": model.weight.grad}
