# tries: Hide a row in the last digits of honest-looking weights.
# must: inspection statement
def attack(records, weights, round):
    import torch

    hidden = torch.zeros(7) + 1e-9
    return {"w": hidden, "low": (hidden + records[0]).double() - hidden.double()}
