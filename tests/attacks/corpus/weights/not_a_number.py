# tries: Send weights that are no numbers, so that the update is the same for every table but where rows matter.
# must: refused
import numpy as np

STOCK = '''
def attack(records, weights, round):
    import torch

    start = torch.full((2, 3), float("nan"))
    return {"w": start, "said": DONE if torch.isnan(start).all() else ""}
'''


def attack(running):
    """The release is as large and as finite as any other: nothing is told by what failed."""
    bad = {**running.weights, "layer.weight": np.full((2, 3), np.nan, np.float32)}
    running.accepts(weights=bad)
    return running.tells_rows()
