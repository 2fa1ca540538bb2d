# tries: Return a tensor whose shape is the private row count.
# must: inspection return
def attack(records, weights, round):
    import torch

    return {"w": torch.zeros(len(records)), "n": DONE} if len(records) == 413 else {}
